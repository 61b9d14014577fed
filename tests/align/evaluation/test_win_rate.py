"""Win rates on data with a known truth, raw and at equal length; and through the suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from align.evaluation import BUILT_IN_SUITES
from align.evaluation.answering.pace import Pace
from align.evaluation.suite import run_suite
from align.evaluation.suite_file import JUDGE_S, SuiteError, estimate, load_suite
from align.evaluation.win_rate import length_controlled
from align.stats import share_interval
from tests.support.stub_releases import Release, StubPlatform, sensible, write_heldout

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def story(
    seed: int, n: int, theta: float, phi: float, longer: float
) -> tuple[list[float], list[float], list[str]]:
    """Pairs whose winner depends on quality (theta) and on length (phi), lengths in standard deviations."""
    rng = np.random.default_rng(seed)
    lengths = longer + rng.normal(size=n)
    wins = rng.random(n) < 1 / (1 + np.exp(-theta - phi * np.tanh(lengths)))
    return wins.astype(float).tolist(), (40 * lengths).tolist(), [str(i) for i in range(n)]


def test_length_alone_wins_raw_and_not_at_equal_length() -> None:
    raw, controlled, covered = [], [], 0
    for seed in range(60):
        values, lengths, clusters = story(seed, 200, theta=0.0, phi=2.0, longer=1.0)
        found = length_controlled(values, lengths, clusters)
        raw.append(share_interval(values, clusters)["value"])
        controlled.append(found["value"])
        covered += found["low"] <= 0.5 <= found["high"]
        assert found["length_gap"] == pytest.approx(1.0, abs=0.4)
    assert np.mean(raw) > 0.7
    assert np.mean(controlled) == pytest.approx(0.5, abs=0.04)
    assert covered / 60 >= 0.88


def test_quality_wins_at_equal_length_too() -> None:
    values, lengths, clusters = story(1, 200, theta=1.5, phi=0.0, longer=0.0)
    assert length_controlled(values, lengths, clusters)["low"] > 0.6


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_pairs_that_all_end_alike_prove_no_more_than_their_number(value: float) -> None:
    clusters = [str(i) for i in range(24)]
    found = length_controlled([value] * 24, [0.0] * 24, clusters)
    assert found["high"] - found["low"] > 0.1
    assert length_controlled([value] * 6, [1.0] * 6, clusters[:6])["low"] is None


async def test_a_release_that_answers_shorter_wins_by_that_rule(tmp_path: Path) -> None:
    suite = tmp_path / "shorter.toml"
    suite.write_text(
        """
        [[measurements]]
        kind = "answers"
        general = 24

        [[measurements]]
        kind = "win_rate"
        prefer = "shorter"
        rules = [{rule = "no_keywords", value = ["please"]}]

        [[measurements]]
        kind = "instructions"
        prompts = 20
        """
    )
    brief = Release(lambda *asked: ("A river.", "stop"))
    platform = StubPlatform(x_1=Release(sensible), x_2=brief)
    async with platform.api() as api:
        report = await run_suite(api, "x@2", "x@1", write_heldout(tmp_path / "h.parquet"), str(suite))
        alone = await run_suite(api, "x@2", None, write_heldout(tmp_path / "h.parquet"), str(suite))
    measures = report["measures"]
    assert measures["win_rate"]["release"]["value"] == 1.0
    assert measures["win_rate"]["release"]["low"] > 0.8
    assert measures["win_rate_length_controlled"]["release"]["n"] == 24
    assert measures["instruction_following"]["difference"]["n"] == 20
    assert 0 < measures["instruction_following"]["release"]["value"] < 1
    assert "win_rate" not in alone["measures"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("measurements = []", "measurements: .*at least 1"),
        ('[[measurements]]\nkind = "taste"', "measurements.0: .*taste"),
        ('[[measurements]]\nkind = "heldout"\nrow = 3', "measurements.0.row: Extra inputs"),
        ('[[measurements]]\nkind = "heldout"\nrows = 0', "measurements.0.rows: .*greater than or equal to 1"),
        ('[[measurements]]\nkind = "win_rate"', "rules or prefer"),
        (
            '[[measurements]]\nkind = "win_rate"\nrules = [{rule = "max_words", value = "x"}]',
            "a whole number",
        ),
        ("[[measurements", "cannot be read"),
    ],
)
def test_a_wrong_suite_names_the_field(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(SuiteError, match=words):
        load_suite(str(file))


def test_the_built_in_suites_can_be_read() -> None:
    for name in BUILT_IN_SUITES:
        assert load_suite(name).measurements[0].kind == "heldout"


def test_the_assumed_pace_expects_what_a_whole_suite_took() -> None:
    """279 s on two quiet cores: 21 held-out pairs of about 305 tokens each, stable being the anchor."""
    assert estimate(load_suite("default"), 2, 2, [305] * 21, 2).seconds == pytest.approx(279, rel=0.1)


def test_a_faster_engine_is_expected_to_take_less() -> None:
    slow, fast = (
        estimate(load_suite("default"), 2, 2, [305] * 21, 2, pace=Pace(36.0 * f, 190.0 * f)) for f in (1, 10)
    )
    assert slow.requests == fast.requests
    assert slow.seconds == pytest.approx(10 * fast.seconds)


def test_a_judge_s_time_is_part_of_what_is_expected(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    answers = '[[measurements]]\nkind = "answers"\ngeneral = 10\nseeds = 2\n'
    file.write_text(answers)
    alone = estimate(load_suite(str(file)), 2, 2, [], 1)
    judge = 'kind = "judge"\nurl = "http://127.0.0.1:1"\nmodel = "m"\nvoted = 60\nconcurrency = 2\n'
    file.write_text(f"{answers}[[measurements]]\n{judge}")
    for voted, verdicts in ((0, 40), (30, 100), (500, 160)):
        found = estimate(load_suite(str(file)), 2, 2, [], 1, voted)
        assert found.requests == alone.requests
        assert found.seconds - alone.seconds == pytest.approx(verdicts * JUDGE_S / 2)
