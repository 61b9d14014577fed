"""What the training data of the store consists of, as counts to draw."""

from __future__ import annotations

from typing import Any

from store.db.database import Store
from store.db.rows import Row, fetch_all, loads, scalar
from store.training_data.row_search import PARTS, Search, conditions

EDGES = (0, 50, 100, 200, 400, 800, 1600, 3200, 6400)
"""Where the bins of lengths begin, in characters; the last one is open."""
_METHODS = {"pairs": "dpo", "demonstrations": "sft", "likes": "kto"}
_MOST_PEOPLE = 20


def report(db: Store, noun: str, wanted: Search) -> dict[str, Any]:
    """Return counts of the rows that fit a search; the language is not looked at.

    Keys: `rows`; `lengths` (part -> rows by bin of characters, bins begin at `edges`); `sources`, `people` (names of those
    behind most rows), `states` (rows by review) as lists of `{name, rows}`; of pairs `agreement` (rows by margin between
    votes for and against, ten bins from 0 to 1, rows that two people or more judged) and `chosen_longer`; `left_out`:
    what the newest snapshot of the deployment, or of any, did not take, by reason, and `snapshot`, its id.
    """
    sql, params = conditions(noun, wanted)
    rows = f"(select * from {noun} where {sql})"
    found: dict[str, Any] = {
        "noun": noun,
        "rows": int(scalar(db.read(), f"select count(*) from {rows}", params)),
        "edges": list(EDGES),
        "lengths": {part: _lengths(db, rows, params, part) for part in ("prompt", *PARTS[noun])},
        "sources": _counted(db, "source", rows, params),
        "people": _people(db, noun, rows, params),
        "states": _counted(
            db,
            "coalesce(state, 'unreviewed')",
            f"(select * from {rows} left join row_reviews on item_id = id)",
            params,
        ),
        **_left_out(db, noun, wanted.where.deployment),
    }
    if noun == "pairs":
        found["agreement"] = _agreement(db, rows, params)
        found["chosen_longer"] = scalar(
            db.read(),
            "select avg((chosen_chars > rejected_chars)::int) filter (chosen_chars <> rejected_chars) "
            f"from {rows}",
            params,
        )
    return found


def _lengths(db: Store, rows: str, params: dict[str, Any], part: str) -> list[int]:
    """Return how many rows fall into each bin."""
    size = f"coalesce(list_sum(list_transform({part}, lambda m: length(m.content))), 0)"
    counted = fetch_all(
        db.read(),
        f"""
        select len(list_filter({list(EDGES)}, lambda edge: edge <= {size})) as bin, count(*) as rows
        from {rows}
        group by bin
        """,
        params,
    )
    by_bin = {int(row["bin"]): int(row["rows"]) for row in counted}
    return [by_bin.get(place, 0) for place in range(1, len(EDGES) + 1)]


def _counted(db: Store, column: str, rows: str, params: dict[str, Any]) -> list[Row]:
    return fetch_all(
        db.read(),
        f"select {column} as name, count(*) as rows from {rows} as found group by all order by rows desc, name",
        params,
    )


def _people(db: Store, noun: str, rows: str, params: dict[str, Any]) -> list[Row]:
    behind = (
        f"select id, user_name as person from {rows}"
        if noun == "likes"
        else f"select found.id, person from {rows} as found join evidence on subject_id = found.id"
    )
    return fetch_all(
        db.read(),
        f"""
        select person as name, count(distinct id) as rows
        from ({behind})
        where person is not null
        group by person
        order by rows desc, name
        limit {_MOST_PEOPLE}
        """,
        params,
    )


def _agreement(db: Store, rows: str, params: dict[str, Any]) -> list[int]:
    counted = fetch_all(
        db.read(),
        f"""
        with supporters as (
            select pairs.id, content_hash, versus_hash, (import_id is not null)::int + count(subject_id) as for_it
            from pairs
            left join evidence on subject_id = pairs.id
            group by pairs.id, content_hash, versus_hash, import_id
        ),
        margins as (
            select id,
                2 * sum(for_it) over (partition by content_hash) - sum(for_it) over (partition by versus_hash) as ahead,
                sum(for_it) over (partition by versus_hash) as judged
            from supporters
        )
        select least(9, greatest(0, floor(10 * ahead / judged)))::int as bin, count(*) as rows
        from margins
        where judged > 1 and id in (select id from {rows})
        group by bin
        """,
        params,
    )
    by_bin = {int(row["bin"]): int(row["rows"]) for row in counted}
    return [by_bin.get(place, 0) for place in range(10)]


def _left_out(db: Store, noun: str, deployment: str | None) -> dict[str, Any]:
    newest = fetch_all(
        db.read(),
        """
        select id, report
        from snapshots
        where method = $method and ($deployment is null or deployment = $deployment)
        order by created_at desc
        limit 1
        """,
        {"method": _METHODS[noun], "deployment": deployment},
    )
    if not newest:
        return {"left_out": [], "snapshot": None}
    dropped = (loads(newest[0]["report"]) or {}).get("dropped") or {}
    ranked = sorted(dropped.items(), key=lambda item: -item[1])
    return {
        "left_out": [{"name": why, "rows": count} for why, count in ranked if count],
        "snapshot": newest[0]["id"],
    }
