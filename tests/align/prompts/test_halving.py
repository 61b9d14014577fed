from __future__ import annotations

import asyncio
import random

import pytest

from align.prompts.halving import Round, halve, plan_rounds, planned_scores


def searched(rates: dict[str, float], prompts: int, seed: int = 0, **options: int) -> tuple[list[Round], int]:
    rng = random.Random(seed)
    table = {(name, n): float(rng.random() < rate) for name, rate in rates.items() for n in range(prompts)}
    asked: list[tuple[str, int]] = []

    async def score(name: str, place: int) -> float:
        asked.append((name, place))
        return table[name, place]

    rounds = asyncio.run(halve(list(rates), prompts, score, **options))
    assert len(asked) == len(set(asked)), "no score is computed twice"
    return rounds, len(asked)


def test_rounds_halve_candidates_and_double_prompts() -> None:
    assert plan_rounds(10, 40, 8) == [(10, 8), (5, 16), (3, 32), (2, 40)]
    assert plan_rounds(1, 40, 8) == [(1, 40)]
    assert plan_rounds(4, 6, 8) == [(4, 6)]
    assert plan_rounds(8, 100, 8, finalists=2) == [(8, 8), (4, 16), (2, 100)]
    assert planned_scores(16, 64, 8, finalists=2) == 320
    with pytest.raises(ValueError, match="at least one candidate"):
        plan_rounds(0, 4, 8)


def test_the_best_candidate_wins_with_fewer_scores_than_scoring_everything() -> None:
    rates = {f"c{n}": 0.3 for n in range(11)} | {"best": 0.9}
    rounds, asked = searched(rates, 64)
    assert rounds[-1].standings[0][0] == "best"
    assert rounds[-1].prompts == 64
    assert asked == planned_scores(12, 64, 8)
    assert asked < len(rates) * 64 / 2


def test_the_best_candidate_is_found_in_nine_of_ten_simulated_searches() -> None:
    rates = {f"c{n}": 0.5 for n in range(15)} | {"best": 0.8}
    won = [searched(rates, 64, seed)[0][-1].standings[0][0] == "best" for seed in range(100)]
    assert sum(won) >= 90


def test_equal_scores_keep_the_order_of_the_candidates() -> None:
    rounds, _ = searched({"first": 1.0, "second": 1.0, "third": 1.0}, 4)
    assert next(name for name, _ in rounds[-1].standings) == "first"


def test_a_failure_of_a_score_ends_the_search() -> None:
    async def score(name: str, place: int) -> float:
        raise RuntimeError("the engine is gone")

    with pytest.raises(RuntimeError, match="the engine is gone"):
        asyncio.run(halve(["a", "b"], 4, score))
