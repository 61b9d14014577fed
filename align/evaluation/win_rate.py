"""Win rates of generated answers: raw, and with the difference in length taken out.

Length control: logit P(new wins) = theta + phi tanh(d / sd(d)), d the difference in words; the rate at equal length is
1 / (1 + exp(-theta)). A small ridge penalty keeps both finite, and the interval is of clusters drawn again. AlpacaEval's
term for the difficulty of a prompt (arXiv:2404.04475) is fitted over many models and cannot be separated from theta for two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from align.evaluation.items import Item, by_item, paired
from align.evaluation.measures import Measures
from align.evaluation.rules import share_followed, words
from align.stats import BOOTSTRAP_FROM, share_interval

Values: TypeAlias = NDArray[np.float64]
Prefer = Literal["shorter", "longer"]

RIDGE = (0.05, 0.5)
"""Penalties of theta and phi."""

RESAMPLES = 500


def judge_by_rules(
    items: Sequence[Item], rules: Sequence[Mapping[str, Any]], prefer: Prefer | None
) -> list[Item]:
    """Return who wins each pair of generated answers: who follows more rules, else who is preferred by length."""
    wins = []
    for mine, theirs in _pairs(items):
        value, scores = score_by_rules((mine.answer or "", theirs.answer or ""), rules, prefer)
        wins.append(win(mine, theirs, value, {"by": "rules", "scores": scores}))
    return wins


def score_by_rules(
    texts: tuple[str, str], rules: Sequence[Mapping[str, Any]], prefer: Prefer | None
) -> tuple[float, list[float]]:
    """Return 1 where the first of two answers wins, 1/2 for a tie, and the share of rules that each follows."""
    scores = [share_followed(text, rules) if rules else 0.0 for text in texts]
    better = scores[0] - scores[1] or _by_length(texts, prefer)
    return 0.5 if better == 0 else float(better > 0), scores


def win(mine: Item, theirs: Item, value: float, detail: Mapping[str, Any]) -> Item:
    """Return the item of one compared pair; `value` is 1 where the release wins, 1/2 for a tie."""
    lengths = [len(words(item.answer or "")) for item in (mine, theirs)]
    found = {**detail, "words": lengths}
    return Item("win", mine.cluster, mine.item, "release", mine.reference, value=value, detail=found)


def _pairs(items: Sequence[Item]) -> list[Sequence[Item]]:
    return paired(by_item(items, "answer"), "release", "against")


def _by_length(texts: Sequence[str], prefer: Prefer | None) -> int:
    if prefer is None:
        return 0
    mine, theirs = (len(words(text)) for text in texts)
    return theirs - mine if prefer == "shorter" else mine - theirs


def measure_wins(items: Sequence[Item]) -> Measures:
    """Return `win_rate` and `win_rate_length_controlled` of the pairs compared by rules."""
    won = [item for item in items if item.measure == "win"]
    return {name: {"release": estimate} for name, estimate in win_rates(won).items()}


def win_rates(won: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Return the raw and the length-controlled win rate of compared pairs."""
    if not won:
        return {}
    values, clusters = [item.value or 0.0 for item in won], [item.cluster for item in won]
    lengths = [item.detail["words"][0] - item.detail["words"][1] for item in won]
    return {
        "win_rate": share_interval(values, clusters),
        "win_rate_length_controlled": length_controlled(values, lengths, clusters),
    }


def length_controlled(
    values: Sequence[float], lengths: Sequence[float], clusters: Sequence[str]
) -> dict[str, Any]:
    """Return the win rate at equal length; without an interval below `BOOTSTRAP_FROM` clusters.

    `length_gap` is the mean difference in its standard deviations: beyond 2 hardly any pair has equal length to compare by.
    """
    y, d = np.asarray(values, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    scale = float(d.std()) or float(abs(d).max()) or 1.0
    x = np.tanh(d / scale)
    value = float(_rates(y, x, np.ones((1, len(y))))[0])
    names = list(dict.fromkeys(clusters))
    found = {
        "value": value,
        "low": None,
        "high": None,
        "n": len(names),
        "length_gap": float(d.mean()) / scale,
    }
    if len(names) < BOOTSTRAP_FROM:
        return found
    member = np.asarray([names.index(cluster) for cluster in clusters])
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(names), len(names)) for _ in range(RESAMPLES)]
    # how often each pair is in each resample: as often as its cluster was drawn
    counts = np.stack([np.bincount(one, minlength=len(names))[member] for one in drawn])
    rates = _rates(y, x, counts.astype(np.float64))
    tails: Any = np.quantile(rates, (0.025, 0.975))
    # never narrower than the raw rate's: clusters that all agree draw the same rate again and again
    raw = share_interval(values, clusters)
    low = min(float(tails[0]), value - (raw["value"] - raw["low"]))
    high = max(float(tails[1]), value + (raw["high"] - raw["value"]))
    return found | {"low": max(0.0, low), "high": min(1.0, high)}


def _rates(y: Values, x: Values, counts: Values) -> Values:
    """Fit theta and phi by Newton's method, once per row of `counts` (fits, pairs); return each 1 / (1 + exp(-theta))."""
    design = np.stack([np.ones_like(x), x], axis=1)
    penalty = np.asarray(RIDGE)
    weights = np.zeros((len(counts), 2))
    for _ in range(25):
        p = 1 / (1 + np.exp(-weights @ design.T))
        gradient = (counts * (y - p)) @ design - penalty * weights
        spread = np.einsum("fp,pi,pj->fij", counts * p * (1 - p), design, design, optimize=True)
        step = np.linalg.solve(spread + np.diag(penalty), gradient[:, :, None])[:, :, 0]
        weights = weights + np.clip(step, -2, 2)
        if float(abs(step).max()) < 1e-8:
            break
    fitted: Values = 1 / (1 + np.exp(-weights[:, 0]))
    return fitted
