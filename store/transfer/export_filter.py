"""Which rows an export takes: a filter, and its conditions in SQL for each kind of rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from store.accounts import sharing
from store.db.database import Store
from store.db.excluded import NOT_EXCLUDED
from store.db.rows import naive
from store.errors import Invalid

_NOUNS = ("pairs", "demonstrations", "likes")
_SUPPORTED_BY = "id in (select subject_id from evidence where person = $rater)"
# The chosen answer of a vote for the pair was the release's.
_CHOSEN_OF_RELEASE = """
    id in (
        select subject_id
        from evidence
        join votes on votes.id = evidence.ref
        join pairs on pairs.id = subject_id
        join candidates on candidates.comparison_id = votes.comparison_id
            and if(places is null, side = choice, content = chosen[-1].content)
        where evidence.kind = 'vote' and candidates.release = $release
    )
    """
# The liked answer that the demonstration is made of was the release's.
_LIKED_OF_RELEASE = """
    id in (
        select subject_id
        from evidence
        join completions on completions.id = evidence.ref
        where evidence.kind = 'like' and completions.release = $release
    )
    """
# An import counts as one supporter of a pair, as does each row of evidence; against it are those of the opposite pair.
_AGREEMENT = """
    content_hash in (
        with supporters as (
            select content_hash, versus_hash,
                sum((import_id is not null)::int
                    + (select count(*) from evidence where subject_id = pairs.id)) as for_it
            from pairs
            group by content_hash, versus_hash
        )
        select content_hash
        from supporters
        qualify 2 * for_it - sum(for_it) over (partition by versus_hash)
            >= $min_agreement * sum(for_it) over (partition by versus_hash)
    )
    """
# The condition of each field of `Filter`, by the kinds of rows that can be filtered by it.
_CONDITIONS: dict[str, dict[str, str]] = {
    "deployment": dict.fromkeys(_NOUNS, "deployment in ('', $deployment)"),
    "release": {
        "pairs": _CHOSEN_OF_RELEASE,
        "demonstrations": _LIKED_OF_RELEASE,
        "likes": "completion_id in (select id from completions where release = $release)",
    },
    "rater": {"pairs": _SUPPORTED_BY, "demonstrations": _SUPPORTED_BY, "likes": "user_name = $rater"},
    "since": dict.fromkeys(_NOUNS, "created_at >= $since"),
    "until": dict.fromkeys(_NOUNS, "created_at < $until"),
    "tag": dict.fromkeys(("pairs", "demonstrations"), "list_contains(tags, $tag)"),
    "min_agreement": {"pairs": _AGREEMENT},
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows to take; None takes all.

    deployment: its own rows and those of every deployment. release: rows whose chosen or rated answer a release (record
    id) gave. rater: rows that a person supports. since, until: aware times of arrival, from and before. tag: rows
    with it. min_agreement: 0 to 1, the margin between the votes for and against a pair.
    """

    deployment: str | None = None
    release: str | None = None
    rater: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tag: str | None = None
    min_agreement: float | None = None


def conditions_of(db: Store, noun: str, where: Filter) -> tuple[str, dict[str, Any]]:
    """Return the conditions of a filter in SQL and their parameters; rows that may not teach or are excluded are left out.

    Raises `Invalid` for a field that rows of this kind cannot be filtered by.
    """
    sql, params = wanted_by(noun, where)
    sql += f" and {NOT_EXCLUDED}"
    if not sharing.everybody_agrees(db.read(), "train", db.share):
        sql += f" and id not in ({sharing.withheld_rows(noun, db.share)})"
    return sql, params


def wanted_by(noun: str, where: Filter) -> tuple[str, dict[str, Any]]:
    """Return the conditions of a filter alone, and their parameters. Raises `Invalid` as `conditions_of` does."""
    sql, params = ["true"], dict[str, Any]()
    for field in fields(where):
        value = getattr(where, field.name)
        if value is None:
            continue
        if noun not in _CONDITIONS[field.name]:
            raise Invalid(field.name, value, f"nothing: {noun} cannot be filtered by {field.name}")
        sql.append(_CONDITIONS[field.name][noun])
        params[field.name] = naive(value) if isinstance(value, datetime) else value
    return " and ".join(sql), params
