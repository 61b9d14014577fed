"""Parts of jobs: what each has done so far, by keys of its own, so that it is never done twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from store.db import redaction
from store.db.database import Store
from store.db.rows import dumps, fetch_all, loads
from store.errors import Conflict

HELDOUT = "heldout:"
"""What the keys of prompts begin with that a job keeps for held-out data; an item of an evaluation may be about one."""


@dataclass(frozen=True, slots=True)
class Part:
    """One finished part; `prompt_hash` and `owners` are of the prompt that it holds, if any.

    `of` is the key of the part that it was made from: it is about the same prompt, and goes where that one is gone.
    """

    key: str
    value: Any
    prompt_hash: str | None = None
    owners: Sequence[str] = ()
    of: str | None = None


def keep(db: Store, job: str, parts: Iterable[Part]) -> None:
    """Keep parts, each in place of one of the same key; texts are redacted as all that is stored.

    A part of another that an erasure has deleted meanwhile is left out. Raises `Conflict` where the job is gone.
    """
    rows = [
        {
            "job": job,
            "key": part.key,
            "value": dumps(redaction.json_value(db, part.value), part.key),
            "prompt_hash": part.prompt_hash,
            "owners": list(part.owners),
            "of": part.of,
        }
        for part in parts
    ]
    with db.atomic() as cursor:
        if not fetch_all(cursor, "select 1 from jobs where id = $id", {"id": job}):
            raise Conflict(f"job {job} is gone")
        for row in rows:
            fetch_all(
                cursor,
                """
                insert or replace into job_parts
                select $job, $key, $value, coalesce(parent.prompt_hash, $prompt_hash),
                    coalesce(parent.owners, $owners::varchar[])
                from (select $of as of) as given
                left join job_parts as parent on parent.job = $job and parent.key = given.of
                where given.of is null or parent.key is not null
                """,
                row,
            )


def kept(db: Store, job: str, prefix: str = "") -> dict[str, Any]:
    """Return the values of a job's parts whose keys begin with `prefix`, by key, in the order of the keys."""
    rows = fetch_all(
        db.read(),
        "select key, value from job_parts where job = $job and starts_with(key, $prefix) order by key",
        {"job": job, "prefix": prefix},
    )
    return {row["key"]: loads(row["value"]) for row in rows}


def drop(db: Store, job: str, prefix: str = "") -> None:
    """Delete a job's parts whose keys begin with `prefix`."""
    with db.atomic() as cursor:
        fetch_all(
            cursor,
            "delete from job_parts where job = $job and starts_with(key, $prefix)",
            {"job": job, "prefix": prefix},
        )
