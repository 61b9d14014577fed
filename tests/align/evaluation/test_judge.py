"""A judge behind a local stub server that judges well or misbehaves on purpose."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from align.evaluation.gate import Check, decide
from align.evaluation.judging.judge import JudgeApi, Voted
from align.evaluation.suite import run_suite
from align.evaluation.suite_file import Judge, SuiteError, load_suite
from tests.support.stub_releases import Release, StubPlatform, sensible, write_heldout

pytestmark = pytest.mark.anyio

Say = Callable[[str, str], str]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def judge_server(say: Say, delay_s: float = 0.0) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An OpenAI-compatible endpoint whose verdict is a function of the two answers that it is shown."""
    bodies: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        await asyncio.sleep(delay_s)
        shown = bodies[-1]["messages"][0]["content"]
        a, b = (re.search(rf"<answer {name}>\n(.*?)\n</answer {name}>", shown, re.DOTALL) for name in "AB")
        assert a is not None
        assert b is not None
        choice = {"message": {"role": "assistant", "content": say(a.group(1), b.group(1))}}
        return web.json_response({"choices": [choice]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", bodies
    finally:
        await runner.cleanup()


def verdict(name: str) -> str:
    return json.dumps({"verdict": name})


def prefers_shorter(a: str, b: str) -> str:
    return verdict("A" if len(a) < len(b) else "B" if len(b) < len(a) else "tie")


def always_a(a: str, b: str) -> str:
    return verdict("A")


def voted(n: int = 60) -> list[Voted]:
    """Comparisons whose shorter answer people prefer, on either side."""
    texts = [("short", "a longer answer"), ("a longer answer", "short")]
    asked = [{"role": "user", "content": "Why?"}]
    verdicts: tuple[Any, ...] = ("a", "b")
    return [Voted(f"cmp-{i}", f"h{i}", asked, *texts[i % 2], verdicts[i % 2]) for i in range(n)]


async def judged(
    tmp_path: Path, say: Say, decided: list[Voted], delay_s: float = 0.0, **settings: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with judge_server(say, delay_s) as (url, bodies):
        fields = {"url": url, "model": "judge-1"} | settings
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items())
        suite = tmp_path / "judge.toml"
        suite.write_text(
            f'[[measurements]]\nkind = "answers"\ngeneral = 24\n[[measurements]]\nkind = "judge"\n{lines}\n'
        )
        brief = Release(lambda *asked: ("A river.", "stop"))
        async with StubPlatform(x_1=Release(sensible), x_2=brief).api() as api:
            file = write_heldout(tmp_path / "h.parquet")
            report = await run_suite(api, "x@2", "x@1", file, str(suite), voted=decided)
    return report, bodies


def verdict_of(report: dict[str, Any]) -> str:
    return decide(report, [Check("judge_win_rate", min=0.5)]).verdict


def why(report: dict[str, Any]) -> str:
    rate = report["measures"]["judge_win_rate"]
    assert "release" not in rate
    return str(rate["unproven"]["why"])


async def test_a_judge_that_agrees_with_people_counts_in_the_gate(tmp_path: Path) -> None:
    report, bodies = await judged(tmp_path, prefers_shorter, voted())
    measures = report["measures"]
    assert measures["judge_win_rate"]["release"]["value"] == 1.0
    assert measures["judge_agreement"]["release"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 60}
    assert measures["judge_order_share"]["release"]["value"] == 0.0
    assert "judge_win_rate_length_controlled" in measures
    assert verdict_of(report) == "pass"
    assert len(bodies) == 2 * (24 + 60), "each pair in both orders"
    assert {(body["temperature"], body["response_format"]["type"]) for body in bodies} == {(0, "json_schema")}


async def test_a_judge_that_few_comparisons_prove_does_not_count(tmp_path: Path) -> None:
    report, _ = await judged(tmp_path, prefers_shorter, voted(49))
    assert "49 comparisons, fewer than 50" in why(report)
    assert verdict_of(report) == "undecided"


async def test_a_judge_that_disagrees_with_people_does_not_count(tmp_path: Path) -> None:
    longer = {"A": "B", "B": "A", "tie": "tie"}
    report, _ = await judged(
        tmp_path, lambda a, b: verdict(longer[json.loads(prefers_shorter(a, b))["verdict"]]), voted()
    )
    assert "does not agree with people" in why(report)
    assert verdict_of(report) == "undecided"


async def test_judge_that_always_answers_a_gives_ties_and_is_unusable(tmp_path: Path) -> None:
    report, _ = await judged(tmp_path, always_a, voted())
    assert report["measures"]["judge_win_rate"]["unproven"]["value"] == 0.5
    assert "100% of its verdicts follow the order" in why(report)
    assert verdict_of(report) == "undecided"


async def test_a_judge_with_a_slight_position_bias_still_finds_the_better_answer(tmp_path: Path) -> None:
    def biased(a: str, b: str) -> str:
        return always_a(a, b) if len(a + b) % 4 == 0 else prefers_shorter(a, b)

    report, _ = await judged(tmp_path, biased, voted())
    (rate,) = report["measures"]["judge_win_rate"].values()
    assert 0.7 < rate["value"] <= 1.0


@pytest.mark.parametrize(
    "said", ["A is better", "", '{"verdict": "C"}', '{"verdict": ["A"]}', "[]", '{"winner": "A"}']
)
async def test_invalid_judgement_is_retried_once_and_then_counted(said: str, tmp_path: Path) -> None:
    report, bodies = await judged(tmp_path, lambda a, b: said, voted(), concurrency=1)
    assert "judge_win_rate" not in report["measures"]
    assert report["measures"]["judge_invalid_share"]["release"]["value"] == 1.0
    assert verdict_of(report) == "undecided"
    assert len(bodies) == 20, "ten pairs, twice each: it is asked no more"


async def test_one_malformed_verdict_is_made_good_by_the_retry(tmp_path: Path) -> None:
    left = ["no verdict"]
    report, bodies = await judged(
        tmp_path, lambda a, b: left.pop() if left else prefers_shorter(a, b), voted()
    )
    assert report["measures"]["judge_invalid_share"]["release"]["value"] == 0.0
    assert len(bodies) == 2 * (24 + 60) + 1


async def test_a_slow_judge_ends_as_invalid_within_its_timeouts(tmp_path: Path) -> None:
    report, bodies = await judged(
        tmp_path, prefers_shorter, voted(), delay_s=5, timeout_s=0.05, concurrency=2
    )
    assert report["measures"]["judge_invalid_share"]["release"]["value"] == 1.0
    assert len(bodies) <= 24
    assert verdict_of(report) == "undecided"


async def test_a_judge_that_cannot_be_reached_costs_the_suite_nothing_else(tmp_path: Path) -> None:
    report, _ = await judged(tmp_path, prefers_shorter, [], url="http://127.0.0.1:9")
    assert report["measures"]["rep4"]["release"]["n"] == 24
    assert report["measures"]["judge_invalid_share"]["release"]["value"] == 1.0


async def test_answers_do_not_fill_in_the_prompt_and_its_wording_is_its_version(tmp_path: Path) -> None:
    async with judge_server(prefers_shorter) as (url, bodies):
        own = tmp_path / "own.txt"
        own.write_text("Mine: {request}\n<answer A>\n{a}\n</answer A>\n<answer B>\n{b}\n</answer B>")
        plans = [Judge(kind="judge", url=url, model="m", prompt=prompt) for prompt in (None, str(own))]
        versions = set()
        for plan in plans:
            async with JudgeApi(plan) as judge:
                await judge.judge([{"role": "user", "content": "{b} or {a}?"}], "{b}", "{request}")
                versions.add(judge.version)
    assert len(versions) == 2
    assert "<answer A>\n{b}\n</answer A>" in bodies[0]["messages"][0]["content"]
    assert "user: {b} or {a}?" in bodies[2]["messages"][0]["content"]


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_JUDGE_KEY", "k-1")
    async with JudgeApi(Judge(kind="judge", url="http://x", model="m", key_env="A_JUDGE_KEY")) as judge:
        assert judge._client.headers["Authorization"] == "Bearer k-1"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('url = "ftp://x"\nmodel = "m"', "measurements.0.url"),
        ('url = "http://x"', "measurements.0.model: Field required"),
        ('url = "http://x"\nmodel = "m"\nprompt = "PROMPT"', "{b} must stand in it"),
        ('url = "http://x"\nmodel = "m"\nprompt = "none.txt"', "cannot be read"),
    ],
)
def test_a_wrong_judge_names_the_field(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("{request} {a}")
    file = tmp_path / "suite.toml"
    file.write_text('[[measurements]]\nkind = "judge"\n' + line.replace("PROMPT", str(tmp_path / "p.txt")))
    with pytest.raises(SuiteError, match=words):
        load_suite(str(file))
