"""People's votes between a deployment's canary and its stable release, since it became the canary."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from store.db.database import Cursor, Store
from store.db.rows import Row, fetch_all, scalar, stamp
from store.rollout import deployments

DECIDING_SOURCES = ("pair", "shadow", "drawn")
"""Sources of comparisons that are sampled from traffic; of typed prompts and named releases no vote decides.

Nor of drawn prompts that were not drawn uniformly.
"""

KNOWN_DAYS = 30
"""How long before a canary's beginning a rater must have voted to be one that its rounds wait for."""

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class DuelVote:
    """A vote that may decide: who, when, and the canary's score, 1 for a win, 1/2 for neither, 0 for a loss."""

    rater: str
    at: datetime
    score: float


@dataclass(frozen=True, slots=True)
class Duel:
    """What a canary and the stable release (record ids) have been compared by.

    `votes` are those that may decide, oldest first, and `wins`, `losses`, `ties` their counts; `others` counts
    the votes between the two that do not. `number` is the canary's place among those of the last year, from
    1. `members` are who its rounds wait for: who voted shortly before it began, and users who may vote and are new or
    have voted ever. `raters` is how many users may vote.
    """

    canary: str
    stable: str
    began: datetime
    number: int
    votes: tuple[DuelVote, ...]
    others: int
    members: tuple[str, ...]
    raters: int

    @property
    def wins(self) -> int:
        """Votes for the canary."""
        return sum(vote.score == 1 for vote in self.votes)

    @property
    def losses(self) -> int:
        """Votes for stable."""
        return sum(vote.score == 0 for vote in self.votes)

    @property
    def ties(self) -> int:
        """Votes for neither."""
        return len(self.votes) - self.wins - self.losses


def of_canary(db: Store, deployment: str, leave_out: Collection[str] = ()) -> Duel | None:
    """Return the votes cast since this canary began beside this stable release; None without a canary.

    Answers to gold questions and votes of `leave_out` do not count. Of a comparison the first vote may decide,
    of a drawn prompt (by its conversation's first user message) the first comparison. Raises `NotFound`.
    """
    found = deployments.get(db, deployment)
    if found.canary is None:
        return None
    cursor = db.read()
    began = _began(cursor, deployment, found.canary, found.stable)
    rows = _votes(cursor, found.canary, found.stable, began, tuple(leave_out))
    deciding = [row for row in rows if row["place"] == 1]
    return Duel(
        canary=found.canary,
        stable=found.stable,
        began=stamp(began),
        number=_number(cursor, deployment, began),
        votes=tuple(DuelVote(row["rater"], stamp(row["cast_at"]), row["score"]) for row in deciding),
        others=len(rows) - len(deciding),
        members=_members(cursor, began, tuple(leave_out)),
        raters=_raters(cursor),
    )


def _began(cursor: Cursor, deployment: str, canary: str, stable: str) -> datetime:
    began: datetime = scalar(
        cursor,
        """
        with turns as (
            select created_at, canary = $canary and stable = $stable as together
            from deployment_history
            where deployment = $deployment
        )
        select min(created_at)
        from turns
        where created_at > coalesce(
            (select max(created_at) from turns where together is not true), timestamp '1970-01-01'
        )
        """,
        {"deployment": deployment, "canary": canary, "stable": stable},
    )
    return began


def _number(cursor: Cursor, deployment: str, began: datetime) -> int:
    return max(
        1,
        int(
            scalar(
                cursor,
                """
                with turns as (
                    select canary, created_at, lag(canary) over (order by seq) as before
                    from deployment_history
                    where deployment = $deployment
                )
                select count(*)
                from turns
                where canary is not null and canary is distinct from before
                    and created_at <= $began and created_at > $since
                """,
                {"deployment": deployment, "began": began, "since": began - YEAR},
            )
        ),
    )


def _votes(
    cursor: Cursor, canary: str, stable: str, began: datetime, leave_out: tuple[str, ...]
) -> list[Row]:
    """Return votes between the two, oldest first; `place` is 1 for one that may decide, else above 1 or null."""
    # duels: votes between canary and stable, with the source only where the comparison was drawn uniformly and the vote was
    # blind (not one in the place of a vote that was taken back after the releases were revealed); then a vote's
    # place among those on the same comparison, or on the same drawn prompt.
    return fetch_all(
        cursor,
        """
        with duels as (
            select vote_id as id, rater, decided_pairs.created_at as cast_at, comparison_id, one_side, other_side,
                if(coalesce(queue, 'uniform') = 'uniform' and revised is not true, source, null) as source,
                case outcome when 'a' then one_release = $canary when 'b' then other_release = $canary end as won,
                lower([turn.content for turn in messages if turn.role = 'user'][1]) as prompt
            from decided_pairs
            join comparisons on comparisons.id = comparison_id
            where gold is null and decided_pairs.created_at >= $began
                and not list_contains($leave_out::varchar[], rater)
                and (
                    one_release = $canary and other_release = $stable
                    or one_release = $stable and other_release = $canary
                )
        )
        select rater, cast_at, coalesce(won::int::double, 0.5) as score,
            if(
                list_contains($deciding::varchar[], source),
                row_number() over (
                    partition by source, if(source = 'drawn', prompt, comparison_id)
                    order by cast_at, id, one_side, other_side
                ),
                null
            ) as place
        from duels
        order by cast_at, id, one_side, other_side
        """,
        {
            "canary": canary,
            "stable": stable,
            "began": began,
            "leave_out": list(leave_out),
            "deciding": list(DECIDING_SOURCES),
        },
    )


def _members(cursor: Cursor, began: datetime, leave_out: tuple[str, ...]) -> tuple[str, ...]:
    # known: who voted in the last days before the canary began, and raters whose account is new or who ever voted.
    rows = fetch_all(
        cursor,
        """
        with known as (
            select rater
            from votes
            where created_at < $began and created_at >= $since
            union
            select name
            from users
            where list_contains(roles, 'rater') and created_at < $began
                and (created_at >= $since or exists(from votes where rater = users.name and created_at < $began))
        )
        select rater
        from known
        where not list_contains($leave_out::varchar[], rater)
        order by rater
        """,
        {"began": began, "since": began - timedelta(days=KNOWN_DAYS), "leave_out": list(leave_out)},
    )
    return tuple(row["rater"] for row in rows)


def _raters(cursor: Cursor) -> int:
    return int(scalar(cursor, "select count(*) from users where list_contains(roles, 'rater')"))
