"""Releases that misbehave on purpose, measured by the default suite and judged by the default checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.evaluation.gate import DEFAULT_CHECKS, GateDecision, decide
from align.evaluation.items import Item, from_json
from align.evaluation.report import measures_of
from align.evaluation.suite import run_suite
from tests.support.stub_releases import (
    Release,
    StubPlatform,
    cut,
    refusing,
    repeating,
    repeating_a_little,
    silent,
    write_heldout,
)

pytestmark = pytest.mark.anyio

LEARNED: dict[str, float] = {"chosen": -1.9, "rejected": -2.2, "text": -0.52}
"""What a turn that went well does to log-probabilities."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def judged(tmp_path: Path, new: Release, suite: str = "default") -> tuple[dict[str, Any], GateDecision]:
    platform = StubPlatform(x_1=Release(), x_2=new)
    async with platform.api() as api:
        report = await run_suite(
            api, "x@2", "x@1", write_heldout(tmp_path / "h.parquet"), suite, anchor="x@1", seed="1"
        )
    return report, decide(report, DEFAULT_CHECKS)


def failed(decision: GateDecision) -> set[str]:
    return {looked.check.measure for looked in decision.checks if looked.outcome == "fail"}


async def test_a_turn_that_learned_passes_the_default_checks(tmp_path: Path) -> None:
    report, decision = await judged(tmp_path, Release(**LEARNED, spread=0.02))
    assert decision.verdict == "pass", [one.reason for one in decision.checks if one.outcome != "pass"]
    measures = report["measures"]
    assert measures["perplexity_ratio"]["release"]["value"] == pytest.approx(1.02, abs=0.02)
    assert 0 < measures["kl"]["release"]["value"] < 0.05
    assert measures["length_ratio"]["release"]["censored"] == 0.0
    assert measures["over_refusal_share"]["difference"]["n"] == 10
    assert set(measures["answer_tokens"]) == {"release", "against", "difference"}


@pytest.mark.parametrize(
    ("answer", "measure"),
    [
        (repeating, "rep4"),
        (repeating, "cut_share"),
        (repeating_a_little, "rep4"),
        (cut, "cut_share"),
        (refusing, "refusal_share"),
        (silent, "empty_share"),
        (silent, "length_ratio"),
    ],
)
async def test_degenerate_answers_are_rejected_though_votes_were_learned(
    answer: Any, measure: str, tmp_path: Path
) -> None:
    _, decision = await judged(tmp_path, Release(answer, **LEARNED))
    assert decision.verdict == "fail"
    assert measure in failed(decision)


async def test_flipped_votes_are_rejected(tmp_path: Path) -> None:
    _, decision = await judged(tmp_path, Release(chosen=-2.2, rejected=-1.9))
    assert failed(decision) >= {"reward_accuracy"}


async def test_training_on_garbage_is_rejected_by_neutral_texts(tmp_path: Path) -> None:
    """As an SFT run has it: nothing is known of rewards, and its own demonstrations became likelier."""
    report, _ = await judged(tmp_path, Release(chosen=-1.0, rejected=-1.0, text=-4.0))
    for name in ("reward_accuracy", "preference_accuracy"):
        del report["measures"][name]
    decision = decide(report, DEFAULT_CHECKS)
    assert decision.verdict == "fail"
    assert failed(decision) >= {"kl", "perplexity_ratio"}


async def test_quick_suite_promotes_no_release(tmp_path: Path) -> None:
    _, decision = await judged(tmp_path, Release(**LEARNED), "quick")
    assert decision.verdict == "undecided"
    _, decision = await judged(tmp_path, Release(repeating, chosen=-1.9, rejected=-2.2, text=-5.0), "quick")
    assert decision.verdict == "fail"


async def test_a_report_is_a_function_of_the_items(tmp_path: Path) -> None:
    kept: list[Item] = []

    async def keep(items: Any) -> None:
        kept.extend(items)

    platform = StubPlatform(x_1=Release(), x_2=Release(**LEARNED, spread=0.1))
    file = write_heldout(tmp_path / "h.parquet", 12)
    async with platform.api() as api:
        report = await run_suite(api, "x@2", "x@1", file, anchor="x@1", keep=keep)
    again = [from_json(item.to_json()) for item in kept]
    assert measures_of(again) == report["measures"]
    answers = [item for item in kept if item.measure == "answer"]
    assert {item.finish_reason for item in answers} == {"stop"}
    assert all(item.answer and item.tokens and item.seconds for item in answers)
    prompts = {item.reference for item in answers if item.detail["kind"] == "heldout"}
    assert prompts <= {f"pair-{n}" for n in range(12)}
    assert not any("please" in item.cluster for item in kept), "clusters hold no text"


async def test_requests_of_the_two_releases_alternate_at_their_own_sampling(tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(
        '[[measurements]]\nkind = "answers"\nheldout = 3\ngeneral = 3\nseeds = 2\ngreedy = true\nmax_tokens = 50\n'
    )
    platform = StubPlatform(x_1=Release(), x_2=Release())
    async with platform.api() as api:
        await run_suite(
            api, "x@2", "x@1", write_heldout(tmp_path / "h.parquet"), str(suite), caps={"x@1": 40, "x@2": 900}
        )
    bodies = platform.generated
    assert [body["model"] for body in bodies] == ["x@2", "x@1"] * 18
    assert {(body["model"], body["max_tokens"]) for body in bodies} == {("x@2", 50), ("x@1", 40)}
    sampled = [(body.get("seed"), body.get("temperature")) for body in bodies[::2]]
    assert sampled == [(1, None), (2, None), (None, 0.0)] * 6
