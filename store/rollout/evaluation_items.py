"""Items of evaluations: what each single measurement found, and whose prompt it was about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from store.db import redaction
from store.db.database import Store
from store.db.rows import Row, check_limit, dumps, fetch_all, loads
from store.rollout import evaluations

OURS = ("neutral:", "suite:")
"""What references begin with whose prompts come with the platform."""

_FIELDS = (
    "measure", "cluster", "item", "side", "reference", "answer", "finish_reason", "tokens", "seconds", "value",
    "detail",
)  # fmt: skip
_SHAPE = (
    '[{"measure":"VARCHAR","cluster":"VARCHAR","item":"VARCHAR","side":"VARCHAR","reference":"VARCHAR","answer":"VARCHAR",'
    '"finish_reason":"VARCHAR","tokens":"INTEGER","seconds":"DOUBLE","value":"DOUBLE","detail":"JSON"}]'
)
# Every row that an item may be about, and every prompt that a job kept for held-out data.
_ROWS = " union all ".join(
    f"select id, prompt_hash, {prompt} as prompt from {table}"
    for table, prompt in (
        ("pairs", "prompt"), ("demonstrations", "prompt"), ("likes", "prompt"), ("comparisons", "messages"),
    )
) + """
    union all
    select job || '/' || key, prompt_hash, from_json(value, '[{"role":"VARCHAR","content":"VARCHAR"}]')
    from job_parts
    where starts_with(key, 'heldout:')
    """  # fmt: skip


def record(db: Store, evaluation: str, items: Iterable[Mapping[str, Any]]) -> int:
    """Keep the items of an evaluation in place of those that it had; return how many were kept.

    An item about a row that is no longer there, since somebody was erased meanwhile, is left out. Raises `NotFound`.
    """
    evaluations.get(db, evaluation)
    rows = [{name: item.get(name) for name in _FIELDS} for item in items]
    for row in rows:
        if row["answer"] is not None:
            row["answer"] = redaction.text(db, row["answer"])
    with db.atomic() as cursor:
        cursor.execute("delete from evaluation_items where evaluation = $id", {"id": evaluation})
        kept = fetch_all(
            cursor,
            f"""
            insert into evaluation_items
            with given as (
                select unnest(from_json($rows::json, '{_SHAPE}')) as row, generate_subscripts($seqs, 1) as seq
            )
            select $id, seq, row.measure, row.cluster, row.item, row.side, row.reference, prompt_hash, row.answer,
                row.finish_reason, row.tokens, row.seconds, row.value, row.detail
            from given
            left join ({_ROWS}) as known on known.id = row.reference
            where known.id is not null
                or list_bool_or([starts_with(coalesce(row.reference, ''), own) for own in $ours])
            returning seq
            """,
            {
                "id": evaluation,
                "rows": dumps(rows, "items"),
                "seqs": list(range(len(rows))),
                "ours": list(OURS),
            },
        )
    return len(kept)


def list_page(
    db: Store,
    evaluation: str,
    measure: str | None = None,
    side: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Row]:
    """Return items in order from behind the one with number `after`, each with its `prompt` where it is known.

    Raises `NotFound` for an unknown evaluation.
    """
    evaluations.get(db, evaluation)
    return _read(db, evaluation, measure, side, after, check_limit(limit))


def list_all(db: Store, evaluation: str) -> list[Row]:
    """Return every item of an evaluation, in order. Raises `NotFound`."""
    evaluations.get(db, evaluation)
    return _read(db, evaluation, None, None, 0, None)


def _read(
    db: Store, evaluation: str, measure: str | None, side: str | None, after: int, limit: int | None
) -> list[Row]:
    rows = fetch_all(
        db.read(),
        f"""
        select seq, {", ".join(_FIELDS)}, prompt
        from evaluation_items
        left join ({_ROWS}) as known on known.id = reference
        where evaluation = $evaluation and seq > $after
            and ($measure is null or measure = $measure) and ($side is null or side = $side)
        order by seq
        limit {"all" if limit is None else limit}
        """,
        {"evaluation": evaluation, "after": after, "measure": measure, "side": side},
    )
    return [{**row, "detail": loads(row["detail"])} for row in rows]
