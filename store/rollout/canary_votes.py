"""How a deployment's canary fares against its stable release in people's votes, since it became the canary."""

from __future__ import annotations

from dataclasses import dataclass

from store.db.database import Store
from store.db.rows import fetch_one
from store.rollout import deployments


@dataclass(frozen=True, slots=True)
class Duel:
    """Votes between a canary and the stable release, both record ids: the canary's `wins`, `losses` and `ties`."""

    canary: str
    stable: str
    wins: int
    losses: int
    ties: int


def of_canary(db: Store, deployment: str) -> Duel | None:
    """Return the votes cast since this canary began beside this stable release; None without a canary.

    Answers to gold questions do not count; a vote for neither is a tie. Raises `NotFound`.
    """
    found = deployments.get(db, deployment)
    if found.canary is None:
        return None
    row = fetch_one(
        db.read(),
        """
        with turns as (
            select created_at, canary = $canary and stable = $stable as together
            from deployment_history
            where deployment = $deployment
        ),
        began as (
            select min(created_at) as at
            from turns
            where created_at > coalesce(
                (select max(created_at) from turns where together is not true), timestamp '1970-01-01'
            )
        ),
        duels as (
            select choice, a.release = $canary as canary_is_a
            from votes
            join comparisons on comparisons.id = votes.comparison_id
            join candidates a on a.comparison_id = comparisons.id and a.side = 'a'
            join candidates b on b.comparison_id = comparisons.id and b.side = 'b'
            where gold is null and votes.created_at >= (from began)
                and (a.release = $canary and b.release = $stable or a.release = $stable and b.release = $canary)
        )
        select
            count(*) filter (choice = if(canary_is_a, 'a', 'b')) as wins,
            count(*) filter (choice = if(canary_is_a, 'b', 'a')) as losses,
            count(*) filter (choice in ('tie', 'both_bad')) as ties
        from duels
        """,
        {"deployment": deployment, "canary": found.canary, "stable": found.stable},
    )
    assert row is not None
    return Duel(found.canary, found.stable, int(row["wins"]), int(row["losses"]), int(row["ties"]))
