"""What callers used, by day in UTC and by who paid: grown by increments, read as sums.

Knows no budgets and no clock; `serve.metering.usage_counter` decides what counts, and toward which day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from store.db.database import Store
from store.db.record import Record
from store.db.rows import fetch_all


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What one payer used in a span of days: answered requests and their tokens.

    `holder` is `user NAME`, a key's id or another caller's name; `name` is what budgets and people call it.
    """

    holder: str
    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


def add(db: Store, increments: Mapping[date, Sequence[Usage]]) -> None:
    """Add what was used on each day to what is there, in one commit; each holder at most once a day."""
    rows = [(day, one) for day, used in increments.items() for one in used]
    with db.atomic() as cursor:
        cursor.execute(
            """
            insert into usage
            select unnest($days::date[]), unnest($holders::varchar[]), unnest($names::varchar[]),
                unnest($requests::bigint[]), unnest($prompt::bigint[]), unnest($completion::bigint[])
            on conflict (day, holder) do update set
                name = excluded.name,
                requests = usage.requests + excluded.requests,
                prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
                completion_tokens = usage.completion_tokens + excluded.completion_tokens
            """,
            {
                "days": [day for day, _ in rows],
                "holders": [one.holder for _, one in rows],
                "names": [one.name for _, one in rows],
                "requests": [one.requests for _, one in rows],
                "prompt": [one.prompt_tokens for _, one in rows],
                "completion": [one.completion_tokens for _, one in rows],
            },
        )


def sums(db: Store, since: date, until: date) -> list[Usage]:
    """Return what each holder used from `since` to `until`, both included; who used most tokens comes first."""
    rows = fetch_all(
        db.read(),
        """
        select
            holder,
            arg_max(name, day) as name,
            sum(requests)::bigint as requests,
            sum(prompt_tokens)::bigint as prompt_tokens,
            sum(completion_tokens)::bigint as completion_tokens
        from usage
        where day between $since and $until
        group by holder
        order by sum(prompt_tokens + completion_tokens) desc, holder
        """,
        {"since": since, "until": until},
    )
    return [Usage(**row) for row in rows]
