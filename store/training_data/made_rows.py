"""Rows that no person judged: decided by rules, a judge or a better release, or distilled from a prompted release.

Each has evidence of the kind `made`, whose reference is the record here: who decided, whose answers were sampled, and whose
words the prompt holds. Snapshots never hold them out (store.datasets.made_members).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from store.db import bulk, redaction
from store.db.database import Cursor, Store, utcnow
from store.db.rows import Row, dumps, fetch_all, scalar
from store.errors import Invalid
from store.ids import new_id
from store.training_data import demonstrations, evidence, pairs
from store.training_data.origin import Origin
from store.values import Demonstration, PreferencePair

MadeKind = Literal["rules", "judge", "release", "distilled"]
MADE_KINDS: tuple[MadeKind, ...] = get_args(MadeKind)
"""Each is also a source of `mix`."""


@dataclass(frozen=True, slots=True)
class MadeRow:
    """A pair or demonstration to record, made from the part `part` of a job, which holds the prompt.

    `release` is the one whose answers were sampled; `context` the one under whose system prompt the row is trained on (''
    none). `finish_reasons` say how the answers ended.
    """

    part: str
    value: PreferencePair | Demonstration
    release: str
    context: str
    finish_reasons: tuple[str | None, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """What became of rows: how many of the job's are there, and how many were known already."""

    rows: int
    duplicates: int


def record(
    db: Store, job: str, deployment: str, kind: MadeKind, decided_by: str, rows: Iterable[MadeRow]
) -> Made:
    """Record rows that a job made, in one transaction; those whose prompt was erased meanwhile are left out.

    `decided_by` is a hash of what decided; the source of the rows is the kind, a colon and this hash. A job that is called
    again records nothing twice.
    """
    source = f"{kind}:{decided_by}"
    duplicates = 0
    with db.atomic() as cursor:
        known = {
            row["key"]: row
            for row in fetch_all(
                cursor, "select key, prompt_hash, owners from job_parts where job = $job", {"job": job}
            )
        }
        for row in rows:
            if row.part in known and not _insert(
                db, cursor, row, known[row.part], (job, deployment, kind, source)
            ):
                duplicates += 1
        count = int(scalar(cursor, "select count(*) from made_rows where job = $job", {"job": job}))
    return Made(count, duplicates)


def _insert(
    db: Store, cursor: Cursor, row: MadeRow, prompt: Mapping[str, Any], of: tuple[str, str, str, str]
) -> bool:
    """Insert one row with its record and evidence; return whether it is this job's, inserted now or before."""
    job, deployment, kind, source = of
    try:
        value = redaction.value(db, row.value)
    except Invalid:  # the two answers differ in what is redacted alone
        return False
    table, derived = _derived(value, deployment, source, row)
    id = bulk.insert_once(cursor, table, derived)
    if id != derived["id"]:
        own = "select 1 from evidence join made_rows on made_rows.id = ref where subject_id = $id and job = $job"
        return bool(fetch_all(cursor, own, {"id": id, "job": job}))
    made: Row = {
        "id": new_id("made"),
        "kind": kind,
        "source": source,
        "job": job,
        "release": row.release,
        "prompt_hash": value.prompt_hash,
        "owners": list(prompt["owners"] or []),
        "detail": dumps(dict(row.detail), "detail"),
        "created_at": utcnow(),
    }
    reason = evidence.row(id, "made", made["id"], None)
    bulk.insert_together(cursor, [("made_rows", made), ("evidence", reason)])
    return True


def _derived(
    value: PreferencePair | Demonstration, deployment: str, source: str, row: MadeRow
) -> tuple[str, Row]:
    if isinstance(value, PreferencePair):
        chosen, rejected = row.finish_reasons
        return "pairs", pairs.derived(value, deployment, source, row.context, (chosen, rejected))
    origin = Origin(row.context, row.finish_reasons[0])
    return "demonstrations", demonstrations.derived(value, deployment, source, origin)


def withdraw_distilled(db: Store, deployment: str, job: str) -> int:
    """Delete what earlier jobs distilled for a deployment: another prompt would contradict it. Return how many rows."""
    with db.atomic() as cursor:
        cursor.execute(
            """
            delete from evidence
            where kind = 'made' and ref in (select id from made_rows where kind = 'distilled' and job <> $job)
                and subject_id in (select id from demonstrations where deployment = $deployment)
            """,
            {"deployment": deployment, "job": job},
        )
        return len(evidence.delete_unsupported(cursor, "demonstrations"))
