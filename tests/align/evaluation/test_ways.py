from __future__ import annotations

from typing import Any

import pytest

from align.evaluation.gate import Check
from align.evaluation.reports.comparison_page import page, table
from align.evaluation.ways import Way, holm, weigh
from align.stats import wilson

CHECKS = (Check("win_rate", min=0.5), Check("empty_share", max=0.15), Check("reward_accuracy", min=0.5))
WAYS = (
    Way("base", "assistant@1"),
    Way("prompt", "assistant@2"),
    Way("few-shot", "assistant@3"),
    Way("adapter", "assistant@4", training_s=600.0, adapter_bytes=4_000_000),
)


def difference(value: float, width: float) -> dict[str, Any]:
    return {"value": value, "low": value - width, "high": value + width, "n": 8}


def model(
    name: str, won: int | None, first: float = 0.0, pace: float = 0.0, empty: int = 0, tokens: int = 20
) -> Any:
    """A model that won so many of 40 answers, and is slower than the baseline by these differences."""
    measures: dict[str, Any] = {"empty_share": {"release": wilson(empty, 40)}}
    speed: dict[str, Any] = {
        "first_token_s": {"median": 0.1 + first, "mean": difference(0.1 + first, 0.01)},
        "tokens_per_second": {"median": 50 + pace, "mean": difference(50 + pace, 1)},
        "prompt_tokens": {"median": tokens, "mean": difference(tokens, 1)},
    }
    if won is not None:
        measures["win_rate"] = {"release": wilson(won, 40)}
        speed["first_token_s"]["difference"] = difference(first, 0.004)
        speed["tokens_per_second"]["difference"] = difference(pace, 0.5)
        speed["prompt_tokens"]["difference"] = difference(tokens - 20, 0)
    return {"model": name, "measures": measures, "speed": speed}


def compared(**models: Any) -> dict[str, Any]:
    named = {"base": model("assistant@1", None), **models}
    return {"baseline": "base", "suite": "default", "models": named}


def weighed(prompt: Any, few: Any, adapter: Any, **more: Any) -> dict[str, Any]:
    found = compared(prompt=prompt, **{"few-shot": few}, adapter=adapter)
    return found | weigh(found, WAYS, CHECKS, **more)


def test_the_cheapest_way_that_passes_is_recommended() -> None:
    found = weighed(
        model("assistant@2", 34, 0.01, tokens=30),
        model("assistant@3", 36, 0.2, tokens=200),
        model("assistant@4", 38, 0.001, -5),
    )
    assert [row["way"] for row in found["ways"]] == ["base", "prompt", "few-shot", "adapter"]
    assert found["by"] == "win_rate"
    assert found["recommended"] == "prompt"
    assert "3 that pass" in found["why"]
    costs = {row["way"]: row["cost"] for row in found["ways"]}
    assert costs["prompt"]["seconds_per_day"] == pytest.approx(10)
    assert costs["prompt"]["added_prompt_tokens"] == 10
    assert costs["adapter"]["seconds_per_day"] == pytest.approx(1000 * 100 * (1 / 45 - 1 / 50) + 20)
    assert costs["adapter"]["training_minutes"] == 10
    assert costs["base"]["training_minutes"] is None


def test_at_many_requests_an_adapter_is_cheaper_than_long_examples() -> None:
    ways = (model("assistant@2", 20), model("assistant@3", 36, 0.2, tokens=200), model("assistant@4", 38))
    assert weighed(*ways, requests_per_day=10)["recommended"] == "few-shot"
    assert weighed(*ways, requests_per_day=100_000)["recommended"] == "adapter"


def test_noise_of_few_requests_costs_nothing() -> None:
    found = weighed(model("assistant@2", 34, 0.003), model("assistant@3", 20), model("assistant@4", 20))
    assert next(row for row in found["ways"] if row["way"] == "prompt")["cost"]["seconds_per_day"] == 0


def test_what_fails_the_gate_is_not_recommended() -> None:
    found = weighed(
        model("assistant@2", 40, empty=20), model("assistant@3", 20), model("assistant@4", 38, 0.001)
    )
    assert found["recommended"] == "adapter"
    prompt = next(row for row in found["ways"] if row["way"] == "prompt")
    assert prompt["better"]
    assert prompt["gate"] == "fail"
    assert "empty" in " ".join(prompt["reasons"])


def test_without_a_better_way_the_baseline_stays() -> None:
    same = [model(f"assistant@{n}", 20) for n in (2, 3, 4)]
    assert weighed(*same)["recommended"] == "base"
    broken = [model(f"assistant@{n}", 40, empty=30) for n in (2, 3, 4)]
    found = weighed(*broken)
    assert found["recommended"] == "base"
    assert "no way passes the gate; assistant@2 is better, but:" in found["why"]
    unmeasured = [model(f"assistant@{n}", None) for n in (2, 3, 4)]
    assert "accepted: a suite with one of win_rate" in weighed(*unmeasured)["why"]


def test_holm_corrects_for_the_number_of_ways() -> None:
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert found["b"] == pytest.approx(0.03)
    assert found["c"] == found["a"] == pytest.approx(0.06)
    # 26 of 40 alone is beyond chance, one of three such ways is not
    alone = compared(prompt=model("assistant@2", 26))
    assert weigh(alone, WAYS[:2], CHECKS)["ways"][-1]["better"]
    three = weighed(model("assistant@2", 26), model("assistant@3", 20), model("assistant@4", 20))
    assert not any(row.get("better") for row in three["ways"])


def test_the_table_and_the_page_show_every_way_with_intervals() -> None:
    found = weighed(
        model("<b>assistant@2</b>", 34, 0.01, tokens=30), model("assistant@3", 36), model("assistant@4", 38)
    )
    rows = {row["name"]: row for row in table(found)}
    assert rows["prompt"]["quality"] == "win rate 0.85 (0.709 to 0.929, n=40)"
    assert rows["prompt"]["gate"] == "passes"
    assert rows["adapter"]["training min"] == "10.0"
    assert rows["adapter"]["adapter MB"] == "4.0"
    assert "licence" not in rows["base"], "a heading without figures is left out"
    html = page(found)
    assert "Recommended: few-shot" in html
    assert "&lt;b&gt;assistant@2" in html
    assert html.count("<svg") == 3 + 4, "a win rate per way, and a share per model"
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
