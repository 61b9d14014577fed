"""Which prompt is drawn and which releases answer it: with the chances that are stored, and what decides a canary."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.db.rows import fetch_all
from store.feedback import comparisons, rating_queue
from store.feedback.comparisons import Candidate
from store.rollout import canary_votes, deployments, releases
from store.values import Message
from tests.trimtab.test_people import BASE, answers, build, record, with_canary
from trimtab import draws
from trimtab.config.data_sections import RankSettings
from trimtab.config.settings import Settings
from trimtab.draws import Draws, Queue
from trimtab.platform import Platform

SHARES: dict[Queue, float] = {"uniform": 0.2, "teach": 0.6, "releases": 0.2}
PROMPTS = [(Message("user", text),) for text in ("One", "one", "Two", "Three", "Four")]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return build(tmp_path / "data")


def test_prompts_are_drawn_with_the_chances_that_are_recorded() -> None:
    chance, drawn, said = random.Random(1), Counter[int](), {}
    for _ in range(20_000):
        place, draw = draws.draw(PROMPTS, {"one": 3, "two": 1}, SHARES, chance)
        drawn[place] += 1
        said[place] = draw.with_usual(may_choose=False)
    assert sum(said.values()) == pytest.approx(1)
    for place, of_place in said.items():
        assert drawn[place] / 20_000 == pytest.approx(of_place, abs=0.015)


def test_outside_the_uniform_sample_no_cluster_is_drawn_again_before_all_others() -> None:
    shares: dict[Queue, float] = {"uniform": 0.0, "teach": 1.0, "releases": 0.0}
    compared = Counter[str]()
    for _ in range(8):
        place, _ = draws.draw(PROMPTS, compared, shares, random.Random(len(compared)))
        compared[rating_queue.cluster_of(PROMPTS[place])] += 1
    assert compared == {"one": 2, "two": 2, "three": 2, "four": 2}


def test_a_uniform_sample_draws_every_prompt_alike() -> None:
    shares: dict[Queue, float] = {"uniform": 1.0, "teach": 0.0, "releases": 0.0}
    drawn = Counter(draws.draw(PROMPTS, {"one": 9}, shares, random.Random(n))[0] for n in range(5000))
    assert min(drawn.values()) > 850


def test_the_chances_of_all_that_may_be_compared_sum_to_one() -> None:
    _, draw = draws.draw(PROMPTS[:1], {}, SHARES, random.Random(0))
    assert draw.with_usual(may_choose=True) + draw.with_chosen(0.75) + draw.with_chosen(
        0.25
    ) == pytest.approx(1)


def test_a_draw_is_taken_once_and_by_who_drew() -> None:
    kept = Draws()
    _, draw = draws.draw(PROMPTS, {}, SHARES, random.Random(0))
    kept.remember("ada", PROMPTS[0], draw)
    assert kept.take("bob", PROMPTS[0]) is None
    assert kept.take("ada", PROMPTS[2]) is None
    assert kept.take("ada", PROMPTS[0]) == draw
    assert kept.take("ada", PROMPTS[0]) is None


def test_shares_above_one_together_are_refused() -> None:
    with pytest.raises(ValueError, match="uniform \\+ releases"):
        RankSettings(uniform=0.7, releases=0.7)
    with pytest.raises(ValueError, match=r"rank\.uniform"):
        Settings.model_validate({"rank": {"uniform": 1.5}})


def drawn_comparisons(client: TestClient, platform: Platform, count: int) -> list[dict[str, Any]]:
    for n in range(3):
        record(platform.db, f"c{n}", Message("user", f"Question {n}"), source="chat")
    for _ in range(count):
        prompt = client.get("/api/prompts/draw").json()
        made = client.post("/api/comparisons", json=prompt | {"drawn": True})
        assert (made.status_code, made.json()["source"]) == (201, "rank")
    return fetch_all(platform.db.read(), "select source, queue, propensity from comparisons")


def test_what_is_drawn_without_a_canary_is_spread_over_the_queues(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    releases.create(platform.db, "assistant", BASE)
    asyncio.run(platform.serving.reconciler.refresh())
    rows = drawn_comparisons(client, platform, 40)
    assert {(row["source"], row["queue"]) for row in rows} == {
        ("drawn", "uniform"),
        ("drawn", "teach"),
        ("chosen", "releases"),
    }
    assert all(0 < row["propensity"] < 1 for row in rows)


def test_all_that_is_drawn_while_a_canary_is_tested_may_decide_it(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    with_canary(platform, 0.1)
    rows = drawn_comparisons(client, platform, 12)
    assert {(row["source"], row["queue"]) for row in rows} == {("drawn", "uniform")}
    assert [row["propensity"] for row in rows] == pytest.approx([1 / 3] * 12)


def test_only_uniform_draws_decide_a_canary(platform: Platform) -> None:
    db = platform.db
    made = releases.create(db, "assistant", BASE)
    deployments.set_canary(db, "assistant", made.ref, 0.5)
    stable = deployments.get(db, "assistant").stable
    for n, (source, queue) in enumerate(
        [("drawn", "uniform"), ("drawn", None), ("drawn", "teach"), ("chosen", "releases"), ("shadow", None)]
    ):
        pair = [Candidate("new", made.id), Candidate("old", stable)]
        one = comparisons.create(db, f"Q{n}", pair, "assistant", source=source, queue=queue, propensity=0.1)
        comparisons.vote(db, one.id, "a", "ada")
    duel = canary_votes.of_canary(db, "assistant")
    assert duel is not None
    assert (len(duel.votes), duel.others) == (3, 2)
