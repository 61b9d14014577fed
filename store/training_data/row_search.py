"""Rows of training data that fit a search, a page at a time, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from store import carried
from store.db import listing, validation
from store.db.database import Store
from store.db.record import Record
from store.db.rows import Row, check_limit, fetch_all, scalar, stamp
from store.errors import Invalid
from store.training_data import curation
from store.training_data.curation import NOUNS, Review
from store.transfer.export_filter import Filter, wanted_by

PARTS = {
    "pairs": ("chosen", "rejected"),
    "demonstrations": ("completion",),
    "likes": ("completion",),
}
"""The responses of a row; the first is the one whose length is searched by."""
_EXTRA = {"pairs": "weight, tags, ", "demonstrations": "tags, ", "likes": "liked, "}
_TEXT = "list_transform({0}, lambda m: m.content)"
_CHARACTERS = {
    "pairs": "chosen_chars",
    "demonstrations": "completion_chars",
    "likes": "list_sum(list_transform(completion, lambda m: length(m.content)))",
}
REVIEWED = (*curation.STATES, "unreviewed")
SCANNED = 20_000
"""Rows whose language is looked at for one page."""
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Search:
    """Which rows are looked for; None takes all.

    text: every word in the prompt or a response, in any case. state: excluded, approved or unreviewed. source: where a row
    comes from. language: ISO 639-1 code of the last thing that the prompt says. min_chars, max_chars: characters of the
    response that is trained on. max_agreement: 0 to 1, as `min_agreement` of the filter.
    """

    text: str | None = None
    state: str | None = None
    source: str | None = None
    language: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    max_agreement: float | None = None
    where: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class FoundRow(Record):
    """A row with what was decided about it, and the people behind it."""

    id: str
    noun: str
    prompt: list[dict[str, Any]]
    responses: dict[str, list[dict[str, Any]]]
    source: str
    deployment: str | None
    tags: list[str]
    weight: float | None
    liked: bool | None
    characters: int
    created_at: datetime
    review: Review | None
    people: list[str]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page of rows.

    `next` is where the page after it begins, `total` how many there are; None where a language is looked for.
    """

    rows: list[FoundRow]
    next: str | None
    total: int | None


def search(db: Store, noun: str, wanted: Search, limit: int = 50, after: str | None = None) -> FoundPage:
    """Return a page of the rows that fit. Raises `Invalid` for a field that is wrong, `NotFound` for an unknown `after`."""
    kind = NOUNS[validation.one_of("noun", noun, tuple(NOUNS))]
    sql, params = conditions(noun, wanted)
    below = None if after is None else listing.one(db, kind, noun, "seq", after)["seq"]
    check_limit(limit)
    if wanted.language:
        ids, following = _spoken(db, noun, sql, params, wanted.language, limit, below)
        return FoundPage(_rows(db, noun, ids), following, None)
    found = fetch_all(
        db.read(),
        f"select id from {noun} where {sql} and ($below is null or seq < $below) order by seq desc limit $limit",
        {**params, "below": below, "limit": limit},
    )
    ids = [row["id"] for row in found]
    total = int(scalar(db.read(), f"select count(*) from {noun} where {sql}", params))
    return FoundPage(_rows(db, noun, ids), ids[-1] if len(ids) == limit else None, total)


def matching(db: Store, noun: str, wanted: Search) -> list[str]:
    """Return the ids of all rows that fit, at most one more than a review takes.

    Raises `Invalid` for a language, which is looked up page by page.
    """
    if wanted.language is not None:
        raise Invalid("language", wanted.language, "nothing: rows in a language are chosen one by one")
    validation.one_of("noun", noun, tuple(NOUNS))
    sql, params = conditions(noun, wanted)
    rows = fetch_all(
        db.read(), f"select id from {noun} where {sql} order by seq desc limit {curation.MOST + 1}", params
    )
    return [row["id"] for row in rows]


def get(db: Store, noun: str, id: str) -> FoundRow:
    """Return one row. Raises `NotFound`."""
    listing.one(db, NOUNS[validation.one_of("noun", noun, tuple(NOUNS))], noun, "id", id)
    return _rows(db, noun, [id])[0]


def conditions(noun: str, wanted: Search) -> tuple[str, dict[str, Any]]:
    """Return the conditions of a search in SQL and their parameters, without the language."""
    sql, params = wanted_by(noun, wanted.where)
    if wanted.text:
        parts = ", ".join(_TEXT.format(part) for part in ("prompt", *PARTS[noun]))
        words = wanted.text.lower().split()
        sql += f"""
            and list_bool_and(list_transform(
                $words::varchar[],
                lambda word: contains(lower(array_to_string(flatten([{parts}]), chr(10))), word)
            ))
            """
        params["words"] = words
    if wanted.state is not None:
        state = validation.one_of("state", wanted.state, REVIEWED)
        reviewed = "select item_id from row_reviews"
        if state == "unreviewed":
            sql += f" and id not in ({reviewed})"
        else:
            sql += f" and id in ({reviewed} where state = $state)"
            params["state"] = state
    if wanted.source is not None:
        sql += " and source = $source"
        params["source"] = wanted.source
    for name, sign in (("min_chars", ">="), ("max_chars", "<=")):
        if (limit := getattr(wanted, name)) is not None:
            sql += f" and {_CHARACTERS[noun]} {sign} ${name}"
            params[name] = limit
    if wanted.max_agreement is not None:
        agreed, _ = wanted_by(noun, Filter(min_agreement=wanted.max_agreement))
        sql += f" and not ({agreed.replace('$min_agreement', '$max_agreement').replace('>=', '>')})"
        params["max_agreement"] = wanted.max_agreement
    return sql, params


def _spoken(
    db: Store, noun: str, sql: str, params: dict[str, Any], language: str, limit: int, below: int | None
) -> tuple[list[str], str | None]:
    """Return the ids of a page of rows in a language, and where the next page begins."""
    import py3langid

    ids: list[str] = []
    looked = 0
    while looked < SCANNED:
        batch = fetch_all(
            db.read(),
            f"""
            select id, seq, left(prompt[-1].content, 500) as said
            from {noun}
            where {sql} and ($below is null or seq < $below)
            order by seq desc
            limit {_BATCH}
            """,
            {**params, "below": below},
        )
        for row in batch:
            if str(py3langid.classify(row["said"] or "")[0]) == language:
                ids.append(row["id"])
                if len(ids) == limit:
                    return ids, row["id"]
        if len(batch) < _BATCH:
            return ids, None
        looked, below = looked + len(batch), batch[-1]["seq"]
    return ids, batch[-1]["id"]


def _rows(db: Store, noun: str, ids: Sequence[str]) -> list[FoundRow]:
    if not ids:
        return []
    parts = PARTS[noun]
    found = fetch_all(
        db.read(),
        f"""
        select id, prompt, {", ".join(parts)}, carried, {_EXTRA[noun]}source, deployment, created_at,
            {_CHARACTERS[noun]} as characters
        from {noun}
        where id in (select unnest($ids::varchar[]))
        order by seq desc
        """,
        {"ids": list(ids)},
    )
    reviewed, people = curation.reviews(db, ids), _people(db, noun, ids)
    return [_found(noun, row, reviewed.get(row["id"]), people.get(row["id"], [])) for row in found]


def _found(noun: str, row: Row, review: Review | None, people: list[str]) -> FoundRow:
    whole = {part: carried.merged(row[part], row["carried"], part) for part in ("prompt", *PARTS[noun])}
    return FoundRow(
        id=row["id"],
        noun=noun,
        prompt=whole.pop("prompt"),
        responses=whole,
        source=row["source"],
        deployment=row["deployment"] or None,
        tags=list(row.get("tags") or ()),
        weight=row.get("weight"),
        liked=row.get("liked"),
        characters=int(row["characters"] or 0),
        created_at=stamp(row["created_at"]),
        review=review,
        people=people,
    )


def _people(db: Store, noun: str, ids: Sequence[str]) -> dict[str, list[str]]:
    said = (
        "select id as subject_id, user_name as person from likes"
        if noun == "likes"
        else "select subject_id, person from evidence"
    )
    rows = fetch_all(
        db.read(),
        f"""
        select subject_id, list(distinct person order by person) as people
        from ({said})
        where subject_id in (select unnest($ids::varchar[])) and person is not null
        group by subject_id
        """,
        {"ids": list(ids)},
    )
    return {row["subject_id"]: list(row["people"]) for row in rows}


FILTERS = (
    *(one.name for one in fields(Search) if one.name != "where"),
    *(one.name for one in fields(Filter)),
)
"""Every field that rows are searched by."""
