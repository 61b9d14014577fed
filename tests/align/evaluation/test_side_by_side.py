"""Several releases on one suite, answers that are kept, and speed, on releases that a stub plays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from align.evaluation.answering.kept_answers import KeptAnswers, KeptVerdicts
from align.evaluation.reports.side_by_side import Plan, compare
from align.evaluation.suite import read_rows, run_suite
from align.evaluation.suite_file import Judge, Suite, load_suite
from tests.support.stub_releases import Release, StubPlatform, write_heldout

MODELS = {"base": "assistant@1", "prompt": "assistant@2", "adapter": "assistant@3"}


def platform() -> StubPlatform:
    short = Release(lambda prompt, rng, max_tokens: ("Yes.", "stop"), chosen=-1.5)
    return StubPlatform(assistant_1=Release(), assistant_2=short, assistant_3=Release(chosen=-1.8))


def suite() -> Suite:
    own = {"kind": "win_rate", "prefer": "shorter"}
    parts = [part.model_dump() for part in load_suite("quick").measurements]
    return Suite.model_validate({"measurements": [*parts, own]})


def compared(stub: StubPlatform, plan: Plan, **more: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with stub.api() as api:
            return await compare(api, plan, **more)

    return asyncio.run(run())


def test_each_side_gets_the_report_of_an_evaluation_against_the_baseline(tmp_path: Path) -> None:
    heldout = write_heldout(tmp_path / "heldout.parquet")
    seen: list[dict[str, Any]] = []
    kept: dict[str, int] = {}

    async def keep(name: str, items: Any) -> None:
        kept[name] = len(items)

    plan = Plan(MODELS, suite(), "seed", read_rows(heldout))
    found = compared(platform(), plan, on_progress=seen.append, keep=keep)
    assert list(found["models"]) == ["base", "prompt", "adapter"]
    assert found["baseline"] == "base"
    assert seen[0]["done"] == 0
    assert seen[-1]["done"] == seen[-1]["total"]
    assert set(kept) == set(MODELS)

    async def alone() -> dict[str, Any]:
        async with platform().api() as api:
            return await run_suite(api, "assistant@2", "assistant@1", heldout, "quick", seed="seed")

    expected = asyncio.run(alone())["measures"]
    measures = found["models"]["prompt"]["measures"]
    untimed = [name for name in expected if name not in ("latency_s", "tokens_per_second", "first_token_s")]
    assert {name: measures[name] for name in untimed} == {name: expected[name] for name in untimed}
    assert measures["win_rate"]["release"]["value"] == 1.0
    assert "win_rate" not in found["models"]["base"]["measures"]
    assert "difference" not in found["models"]["base"]["measures"]["loss"]


def test_without_held_out_rows_the_rest_of_the_suite_is_measured() -> None:
    found = compared(platform(), Plan(MODELS, load_suite("quick"), "seed"))
    assert set(found["models"]["prompt"]["measures"]) == {"perplexity", "perplexity_ratio", "kl"}


def test_speed_is_measured_interleaved_and_paired() -> None:
    stub = platform()
    found = compared(stub, Plan(MODELS, load_suite("quick"), "seed"))
    speed = found["models"]["prompt"]["speed"]
    assert speed["first_token_s"]["median"] > 0
    assert speed["first_token_s"]["difference"]["n"] == 8
    assert speed["prompt_tokens"]["difference"]["value"] == 0
    assert "difference" not in found["models"]["base"]["speed"]["first_token_s"]
    asked = [body["model"] for body in stub.generated if body.get("stream")]
    assert len(asked) == 27
    assert asked[:3] != asked[3:6], "the order changes"
    assert all(set(asked[i : i + 3]) == set(MODELS.values()) for i in range(0, 27, 3))


def test_a_verdict_that_is_in_flight_is_not_asked_for_again() -> None:
    kept: list[str] = []
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        verdict = "A" if "first" in request.content.decode() else "?"
        content = json.dumps({"verdict": verdict})
        return httpx.Response(200, json={"choices": [{"message": {"content": content}}]})

    async def keep(name: str, value: dict[str, Any], body: Any) -> None:
        kept.append(name)

    async def run() -> None:
        plan = Judge(kind="judge", url="http://judge", model="m", concurrency=4)
        async with KeptVerdicts(plan, {}, keep) as judge:
            judge._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
            twice = [judge.judge([{"role": "user", "content": "Hm?"}], "first", "other") for _ in range(2)]
            assert await asyncio.gather(*twice) == [["a", "b"], ["a", "b"]]
            assert (asked, len(kept)) == (2, 1), "once in each order"
            invalid = await judge.judge([{"role": "user", "content": "Hm?"}], "x", "y")
            assert invalid == [None, None]
            assert len(kept) == 1, "invalid verdicts are not kept"

    asyncio.run(run())


def test_kept_answers_are_not_asked_again(tmp_path: Path) -> None:
    plan = Plan(MODELS, suite(), "seed", read_rows(write_heldout(tmp_path / "heldout.parquet")))
    known: dict[str, dict[str, Any]] = {}
    many = 20

    async def run(stub: StubPlatform, stop: bool) -> dict[str, Any]:
        async def keep(name: str, value: dict[str, Any], body: Any) -> None:
            if stop and len(known) >= many:
                raise RuntimeError("cut short")
            known[name] = value

        async with KeptAnswers(stub.api(), known, keep) as api:
            return await compare(api, plan)

    with pytest.raises(RuntimeError, match="cut short"):
        asyncio.run(run(platform(), True))
    assert len(known) == many
    whole = platform()
    found = asyncio.run(run(whole, False))
    again = platform()
    assert asyncio.run(run(again, False))["models"] == found["models"]
    assert again.generated == []
