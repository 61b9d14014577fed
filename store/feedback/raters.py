"""How far raters can be relied on: agreement, gold questions, speed and position bias.

Agreement is Krippendorff's alpha (nominal, over comparisons with two votes or more; `tie` and `both_bad` are one
value), by the library krippendorff. Position bias is a two-sided binomial test of how often `a` was chosen: sides are
drawn at random, so half is expected. Not covered: why a rater differs; a flag asks a person to look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import krippendorff
import numpy as np

from store.db.database import Cursor, Store
from store.db.record import Record
from store.db.rows import fetch_all

MIN_VOTES = 10  # below this a rater is not flagged
FAST = 0.25  # of the median time of all votes
GOLD_RIGHT = 0.7
AGREES = 0.5
UNLIKELY = 0.01
LOPSIDED = 0.1  # how far from one half the share of `a` must be, whatever its evidence


def lopsidedness(a: int, b: int) -> float:
    """Return the evidence that a rater's `a` and `b` are not equally likely: an e-value that may be looked at at any time.

    The likelihood of the votes mixed uniformly over the chance of `a`, over that at one half; for who picks either
    side alike it ever reaches 1 / p with probability p at most (Ville; Robbins 1970).
    """
    n = a + b
    log = n * math.log(2) - math.log(n + 1) + math.lgamma(a + 1) + math.lgamma(b + 1) - math.lgamma(n + 1)
    return math.exp(min(log, 700.0))


@dataclass(frozen=True, slots=True)
class RaterReport(Record):
    """One rater's figures; a share is None where there is nothing to count.

    agreement: share of their votes that equal the majority of the others' on the same comparison. gold_right of
    gold_total gold questions, without votes in the place of one that was taken back. median_seconds of those votes whose
    time is known. share_a: of their votes for a side, those for `a`, and position_p the probability of a split as uneven by
    chance. share_undecided: tie and both_bad. flags: among "disagrees", "fails gold", "too fast", "position bias", from
    `MIN_VOTES` votes on.
    """

    name: str
    votes: int
    agreement: float | None
    gold_right: int
    gold_total: int
    median_seconds: float | None
    share_a: float | None
    position_p: float | None
    share_undecided: float
    flags: tuple[str, ...]


def alpha(cursor: Cursor, deployment: str | None = None) -> dict[str, Any]:
    """Return Krippendorff's `alpha` (None without overlap or variety), and how many `comparisons` and `votes` it is of.

    Votes on more than two answers are left out, and gold questions: they are easy, and one with eight votes would weigh as
    28 pairs of votes.

    `judged_twice` counts pairs of votes for a side on the same comparison, `same` the share of them that agree (None
    without any): what a flip rate is estimated from.
    """
    rows = fetch_all(
        cursor,
        """
        select count(*) filter (choice = 'a') as a,
            count(*) filter (choice = 'b') as b,
            count(*) filter (choice in ('tie', 'both_bad')) as neither
        from votes
        join comparisons on comparisons.id = votes.comparison_id
        where gold is null and places is null and ($deployment is null or deployment = $deployment)
        group by votes.comparison_id
        having count(*) > 1
        """,
        {"deployment": deployment},
    )
    counts = np.array([[row["a"], row["b"], row["neither"]] for row in rows], dtype=np.int64).reshape(-1, 3)
    value = None
    if len(counts) and np.count_nonzero(counts.sum(0)) > 1:
        value = float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    sided = counts[:, :2]
    twice = int((sided.sum(1) * (sided.sum(1) - 1)).sum()) // 2
    alike = int((sided * (sided - 1)).sum()) // 2
    return {
        "alpha": value,
        "comparisons": len(counts),
        "votes": int(counts.sum()),
        "judged_twice": twice,
        "same": alike / twice if twice else None,
    }


def report(db: Store, deployment: str | None = None) -> list[RaterReport]:
    """Return every rater's figures, most votes first."""
    # others: the side that most other raters of a comparison chose, to compare each vote with.
    rows = fetch_all(
        db.read(),
        """
        with cast_votes as (
            select comparison_id, rater, if(revised, null, gold) as gold, seconds, choice,
                case when choice in ('tie', 'both_bad') then 'neither' else choice end as side,
                places is null as of_two
            from votes
            join comparisons on comparisons.id = votes.comparison_id
            where $deployment is null or deployment = $deployment
        ),
        others as (
            select mine.comparison_id, mine.rater, mode(theirs.side) as side
            from cast_votes mine
            join cast_votes theirs using (comparison_id)
            where mine.rater <> theirs.rater
            group by mine.comparison_id, mine.rater
        )
        select cast_votes.rater as name, count(*) as votes,
            avg((cast_votes.side = others.side)::int) as agreement,
            count(*) filter (gold = choice) as gold_right,
            count(*) filter (gold is not null) as gold_total,
            median(seconds) as median_seconds,
            count(*) filter (choice = 'a' and of_two) as a,
            count(*) filter (choice = 'b' and of_two) as b,
            count(*) filter (cast_votes.side = 'neither') as undecided,
            (select median(seconds) from cast_votes) as everyone_seconds
        from cast_votes
        left join others on others.comparison_id = cast_votes.comparison_id and others.rater = cast_votes.rater
        group by cast_votes.rater
        order by votes desc, name
        """,
        {"deployment": deployment},
    )
    return [_rater(row) for row in rows]


@lru_cache(4096)
def _fair_coin(heads: int, tosses: int) -> float:
    """Return the p-value of so many heads; cached, since a vote changes the counts of one rater among all."""
    from scipy.stats import binomtest  # a second to import, for a page that is seldom asked for

    return float(binomtest(heads, tosses).pvalue)


def _rater(row: dict[str, Any]) -> RaterReport:
    sided = row["a"] + row["b"]
    slow = row["everyone_seconds"]
    flags = {
        "disagrees": row["agreement"] is not None and row["agreement"] < AGREES,
        "fails gold": row["gold_total"] > 0 and row["gold_right"] < GOLD_RIGHT * row["gold_total"],
        "too fast": slow is not None
        and row["median_seconds"] is not None
        and row["median_seconds"] < FAST * slow,
        "position bias": sided > 0
        and abs(row["a"] / sided - 0.5) >= LOPSIDED
        and lopsidedness(row["a"], row["b"]) >= 1 / UNLIKELY,
    }
    return RaterReport(
        name=row["name"],
        votes=row["votes"],
        agreement=row["agreement"],
        gold_right=row["gold_right"],
        gold_total=row["gold_total"],
        median_seconds=row["median_seconds"],
        share_a=row["a"] / sided if sided else None,
        position_p=_fair_coin(row["a"], sided) if sided else None,
        share_undecided=row["undecided"] / row["votes"],
        flags=tuple(name for name, raised in flags.items() if raised) if row["votes"] >= MIN_VOTES else (),
    )
