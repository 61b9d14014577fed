"""Error rates of the canary test: how often votes promote a canary that is as good as stable.

usage: python -m bench.deciding.canary_errors [--stories 10000] [--votes 300]

Each story is one canary. Beside the test stands the same betting over single votes as if they were independent ("pooled").
A taste is how often a rater prefers the canary: Beta with mean 1/2 and standard deviation .167. A team of 15 or fewer
decides for itself, so its tastes are shifted to a mean of exactly 1/2; of a crowd they are drawn from people at large.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from trimtab.rollout.canary_test import CanaryVote, blocks, kind_of, wealth

ALPHA = 0.05
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Tastes = Callable[[np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """Raters: `tastes` of each, `shares` of the votes, and `prompts` that are drawn again (0: always new)."""

    tastes: Tastes
    shares: tuple[float, ...] | None = None
    prompts: int = 0


def _people(raters: int) -> Tastes:
    def draw(random: np.random.Generator) -> NDArray[np.float64]:
        taste = random.beta(3.98, 3.98, raters)  # standard deviation .167
        if kind_of(raters) == "crowd":
            return taste
        while True:  # equal for this team
            shifted = taste - taste.mean() + 0.5
            if shifted.min() >= 0 and shifted.max() <= 1:
                return shifted
            taste = random.beta(3.98, 3.98, raters)

    return draw


CASES = {
    "independent votes, 1 rater": Case(lambda _: np.array([0.5])),
    "independent votes, 200 raters": Case(lambda _: np.full(200, 0.5)),
    "lasting tastes, 3 raters": Case(_people(3)),
    "lasting tastes, 10 raters": Case(_people(10)),
    "lasting tastes, 50 raters": Case(_people(50)),
    "lasting tastes, 200 raters": Case(_people(200)),
    "12 prompts drawn again, 3 raters": Case(lambda _: np.full(3, 0.5), prompts=12),
    "12 prompts drawn again, 200 raters": Case(lambda _: np.full(200, 0.5), prompts=12),
    "one rater with 80% of the votes": Case(lambda _: np.array([0.8, 0.35, 0.35]), shares=(0.8, 0.1, 0.1)),
}


def story(case: Case, votes: int, random: np.random.Generator) -> list[CanaryVote]:
    """Return one canary's votes as the store counts them: of a prompt drawn again, the first only."""
    tastes = case.tastes(random)
    shares = case.shares
    if shares is None and len(tastes) > 1:  # some vote much more than others
        weights = 1 / np.arange(1, len(tastes) + 1)
        shares = tuple(weights / weights.sum())
    who = random.choice(len(tastes), size=votes, p=shares)
    chance = tastes[who]
    if case.prompts:
        drawn = random.integers(0, case.prompts, votes)
        chance = random.beta(4, 4, case.prompts)[drawn]
        first = np.sort(np.unique(drawn, return_index=True)[1])
        who, chance = who[first], chance[first]
    scores = (random.random(len(who)) < chance).astype(float)
    return [
        CanaryVote(f"rater {rater}", START + place * MINUTE, float(score))
        for place, (rater, score) in enumerate(zip(who, scores, strict=True))
    ]


def outcomes(case: Case, stories: int, votes: int, seed: int = 0) -> Iterator[tuple[bool, bool, bool]]:
    """Return per simulation: whether the test promoted, rolled back, and whether pooled votes would have."""
    random = np.random.default_rng(seed)
    for _ in range(stories):
        told = story(case, votes, random)
        raters = len(case.tastes(np.random.default_rng(0)))
        # `wealth` is the largest that was reached after any vote, so one call looks after each of them
        values = blocks(told, kind_of(raters), [f"rater {n}" for n in range(raters)])
        mirrored = [1 - value for value in values]
        pooled = [vote.score for vote in told]
        yield wealth(values) >= 1 / ALPHA, wealth(mirrored) >= 1 / ALPHA, wealth(pooled) >= 1 / ALPHA


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=10_000)
    parser.add_argument("--votes", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="1,000 stories")
    asked = parser.parse_args(argv)
    stories = 1_000 if asked.quick else asked.stories
    worst = 0.0
    print("| equal canaries | promoted | rolled back | promoted by pooled votes |\n| --- | --- | --- | --- |")
    for name, case in CASES.items():
        shares = np.mean(list(outcomes(case, stories, asked.votes)), axis=0)
        worst = max(worst, float(shares[0]))
        print(f"| {name} | {' | '.join(f'{share:.2%}' for share in shares)} |", flush=True)
    line = {"name": "false promotions", "figure": round(worst, 4), "unit": "share", "budget": ALPHA}
    print(json.dumps(line | {"ok": worst <= ALPHA, "stories": stories, "votes": asked.votes}))


if __name__ == "__main__":
    main()
