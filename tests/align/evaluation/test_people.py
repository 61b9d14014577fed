"""Pairs for people, and win rates by people and judge, on a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from align.evaluation.items import Item
from align.evaluation.people import PersonVote, choose_pairs, measure_people, ppi


def story(generator: np.random.Generator, n: int, m: int, right: float) -> dict[str, Any]:
    """Draw what people and a judge say; the judge says what people would with the chance `right`, else anything."""
    truth = (generator.random(n + m) < 0.6).astype(float)
    noise = generator.random(n + m) < 0.8  # a judge who likes the release
    judge = np.where(generator.random(n + m) < right, truth, noise.astype(float))
    return ppi(list(truth[:n]), list(judge[:n]), list(judge[n:]))


@pytest.mark.parametrize("right", [0.0, 0.7, 0.95])
@pytest.mark.parametrize(("n", "m"), [(16, 60), (64, 100)])
def test_the_interval_of_people_and_judge_holds_the_truth(n: int, m: int, right: float) -> None:
    generator = np.random.default_rng(3)
    held = [
        found["low"] <= 0.6 <= found["high"] for found in (story(generator, n, m, right) for _ in range(1500))
    ]
    assert np.mean(held) >= (0.92 if n < 30 else 0.935)


def test_a_good_judge_narrows_the_interval_and_a_bad_one_costs_little() -> None:
    generator = np.random.default_rng(4)

    def width(right: float) -> float:
        found = [story(generator, 60, 400, right) for _ in range(200)]
        return float(np.mean([one["high"] - one["low"] for one in found]))

    alone = 2 * 1.96 * float(np.sqrt(0.24 / 60))
    assert width(0.95) < 0.75 * alone
    assert width(0.0) < 1.06 * alone


def answers(cluster: str, release: str, against: str, kind: str = "heldout") -> list[Item]:
    texts = {"release": release, "against": against}
    return [
        Item("answer", cluster, f"{cluster} / {n}", side, f"pair-{cluster}", text, detail={"kind": kind})
        for n in range(2)
        for side, text in texts.items()
    ]


def test_pairs_are_one_per_cluster_of_held_out_answers_that_differ() -> None:
    items = [
        *answers("1", "yes", "no"),
        *answers("2", "same", "same "),
        *answers("3", "", "no"),
        *answers("4", "yes", "no", "general"),
        *answers("5", "yes", "no"),
        *answers("6", "yes", "no"),
    ]
    every = choose_pairs(items, 10, "seed")
    assert sorted(mine.cluster for mine, _ in every) == ["1", "5", "6"]
    assert all((mine.side, theirs.side) == ("release", "against") for mine, theirs in every)
    assert choose_pairs(items, 2, "seed") == every[:2]
    firsts = {choose_pairs(items, 1, str(seed))[0][0].cluster for seed in range(20)}
    assert firsts == {"1", "5", "6"}


def test_votes_give_a_win_rate_by_cluster_and_the_judge_joins_where_it_judged_more() -> None:
    votes = [PersonVote(f"{n} / 0", str(n), float(n % 3 > 0)) for n in range(12)]
    votes.append(PersonVote("0 / 0", "0", 1.0))
    alone = measure_people([], votes)
    assert alone["people_win_rate"]["release"]["n"] == 12
    assert alone["people_win_rate"]["release"]["value"] == pytest.approx(8.5 / 12)
    assert "people_judge_win_rate" not in alone
    judged = [
        Item("judge", cluster, cluster, "release", value=1.0 if n % 3 else 0.0)
        for n in range(30)
        for cluster in [str(n)]
    ]
    neutral = [Item("judge", f"neutral:{n}", f"{n}", "release", value=0.0) for n in range(40)]
    both = measure_people([*judged, *neutral], votes)["people_judge_win_rate"]["release"]
    assert both["n"] == 30
    assert both["high"] - both["low"] < 0.6
    assert measure_people(judged, []) == {}
