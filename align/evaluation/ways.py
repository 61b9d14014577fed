"""What each way to a better answer costs (a prompt, examples, an adapter), and the cheapest that passes.

A way passes where it is better than the baseline and passes the gate against it. Better: its win rate (by rules, by a
judge, or by held-out votes) is above one half at 95%, after Holm's correction for the number of ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from align.evaluation.gate import MIN_ITEMS, Check, decide
from align.stats import Z

PRIMARY = ("win_rate", "judge_win_rate", "reward_accuracy")
"""Measures that say whether a way is better than the baseline; the first that was taken counts."""

ALPHA = 0.05
TRAINED_FOR_DAYS = 30
"""Days over which the time of training is spread."""
REQUESTS_PER_DAY = 1000
ANSWER_TOKENS = 100
"""Tokens of the answer whose time counts in the cost of a request."""

_OF_ROWS = ("reward_accuracy", "chosen_logp_per_token", "anchor_reward_accuracy")


@dataclass(frozen=True)
class Way:
    """One way: its name, its release, and what training it took; None where nothing was trained."""

    name: str
    release: str
    training_s: float | None = None
    adapter_bytes: int | None = None


def weigh(
    compared: Mapping[str, Any],
    ways: Sequence[Way],
    checks: Iterable[Check],
    min_items: int = MIN_ITEMS,
    requests_per_day: float = REQUESTS_PER_DAY,
) -> dict[str, Any]:
    """Return `{"by", "ways": [...], "recommended", "why"}` of what `side_by_side.compare` found.

    The first way is the baseline. Each way has its quality, cost, the gate's verdict, and whether it passes; cheapest
    first. `recommended` is the name of the cheapest that passes, else of the baseline.
    """
    models, baseline = compared["models"], ways[0]
    others = ways[1:]
    by = _primary([models[way.name]["measures"] for way in others])
    chances = {way.name: _chance(_estimate(models[way.name]["measures"], by)) for way in others}
    corrected = holm(chances)
    known = list(checks)
    rows = []
    for way in ways:
        measures = models[way.name]["measures"]
        row: dict[str, Any] = {"way": way.name, "release": way.release, "quality": None, "passes": False}
        row["cost"] = _cost(models[way.name]["speed"], way, requests_per_day)
        if way is not baseline:
            row |= _judged(measures, by, corrected[way.name], known, min_items)
        rows.append(row)
    rows.sort(
        key=lambda row: (row["cost"]["seconds_per_day"], row["cost"]["training_minutes"] or 0, _tokens(row))
    )
    return {"by": by, "ways": rows, **_recommend(rows, baseline, by)}


def _judged(
    measures: Mapping[str, Any], by: str | None, chance: float, checks: Sequence[Check], min_items: int
) -> dict[str, Any]:
    quality = _estimate(measures, by)
    better = bool(quality) and quality["value"] > 0.5 and chance <= ALPHA  # type: ignore[index]
    decision = decide({"measures": measures}, _possible(checks, measures), min_items)
    reasons = [one.reason for one in decision.checks if one.counts and one.outcome != "pass"]
    return {
        "quality": quality,
        "chance": chance,
        "better": better,
        "gate": decision.verdict,
        "reasons": reasons,
        "passes": better and decision.verdict == "pass",
    }


def _possible(checks: Sequence[Check], measures: Mapping[str, Any]) -> list[Check]:
    """Return the checks, those of held-out rows as optional where there were no such rows."""
    return [
        replace(check, required=False)
        if check.measure in _OF_ROWS and check.measure not in measures
        else check
        for check in checks
    ]


def _primary(measured: Sequence[Mapping[str, Any]]) -> str | None:
    return next((name for name in PRIMARY if all(_estimate(one, name) for one in measured)), None)


def _estimate(measures: Mapping[str, Any], name: str | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = measures.get(name or "", {}).get("release")
    return found


def _chance(estimate: Mapping[str, Any] | None) -> float:
    """Return the two-sided p-value of one half, by the width of the 95% interval; 1 where nothing is known."""
    if not estimate or estimate.get("low") is None or estimate.get("high") is None:
        return 1.0
    error = (estimate["high"] - estimate["low"]) / (2 * Z)
    if error <= 0:
        return 1.0 if estimate["value"] == 0.5 else 0.0
    return math.erfc(abs(estimate["value"] - 0.5) / error / math.sqrt(2))


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Return p-values with Holm's correction (1979) for their number."""
    found: dict[str, float] = {}
    highest = 0.0
    for place, name in enumerate(sorted(chances, key=lambda one: chances[one])):
        highest = max(highest, min(1.0, (len(chances) - place) * chances[name]))
        found[name] = highest
    return found


def _cost(speed: Mapping[str, Any], way: Way, requests_per_day: float) -> dict[str, Any]:
    """Return what a way costs; `seconds_per_day` is the engine's time that it adds, training spread over a month."""
    added = _added(speed, "first_token_s")
    pace = speed.get("tokens_per_second")
    if pace and _is_different(pace.get("difference")):
        now = pace["mean"]["value"]
        before = now - pace["difference"]["value"]
        if now > 0 and before > 0:
            added += ANSWER_TOKENS * (1 / now - 1 / before)
    daily = requests_per_day * added + (way.training_s or 0) / TRAINED_FOR_DAYS
    return {
        "prompt_tokens": _median(speed, "prompt_tokens"),
        "added_prompt_tokens": (speed.get("prompt_tokens", {}).get("difference") or {}).get("value"),
        "first_token_s": _median(speed, "first_token_s"),
        "tokens_per_second": _median(speed, "tokens_per_second"),
        "training_minutes": None if way.training_s is None else way.training_s / 60,
        "adapter_bytes": way.adapter_bytes,
        "added_seconds_per_request": added,
        "seconds_per_day": daily,
    }


def _added(speed: Mapping[str, Any], figure: str) -> float:
    difference = speed.get(figure, {}).get("difference")
    return float(difference["value"]) if _is_different(difference) else 0.0


def _is_different(difference: Mapping[str, Any] | None) -> bool:
    """Tell whether an interval leaves out 0: noise of a few requests is no cost."""
    if not difference or difference.get("low") is None:
        return False
    return bool(difference["low"] > 0 or difference["high"] < 0)


def _median(speed: Mapping[str, Any], figure: str) -> float | None:
    found = speed.get(figure)
    return None if found is None else float(found["median"])


def _tokens(row: Mapping[str, Any]) -> float:
    return float(row["cost"]["prompt_tokens"] or 0)


def _recommend(rows: Sequence[Mapping[str, Any]], baseline: Way, by: str | None) -> dict[str, Any]:
    passing = [row for row in rows if row["passes"]]
    if passing:
        way = passing[0]
        others = len(passing) - 1
        beside = f" of the {len(passing)} that pass" if others else ", the only one that passes"
        return {"recommended": way["way"], "why": f"{way['release']} costs least{beside}"}
    if by is None:
        return {
            "recommended": baseline.name,
            "why": f"no measure compares the answers; accepted: a suite with one of {', '.join(PRIMARY)}",
        }
    better = [row for row in rows if row.get("better")]
    if better:
        way = better[0]
        return {
            "recommended": baseline.name,
            "why": f"no way passes the gate; {way['release']} is better, but: {'; '.join(way['reasons'])}",
        }
    return {"recommended": baseline.name, "why": f"no way is better than {baseline.release} by {by}"}
