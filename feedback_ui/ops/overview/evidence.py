"""How a canary's evidence came about: its mean score with the interval, vote by vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import parse_time, percent
from feedback_ui.plots import Point, band

Drawn = Mapping[str, tuple[int, str, Sequence[Mapping[str, Any]]]]
"""By deployment: how many votes there were when the points were asked for, of which canary, and the points."""


def mark(row: Mapping[str, Any]) -> int:
    """Return what changes when a deployment's evidence does; 0 without a canary or votes."""
    votes = row.get("votes") or {}
    return sum(int(votes.get(name) or 0) for name in ("wins", "losses", "ties")) if row.get("canary") else 0


def evidence(points: Sequence[Mapping[str, Any]]) -> str:
    """Render the points as a plot; nothing before the first complete block."""
    known = [point for point in points if point.get("win_rate") is not None]
    if not known:
        return ""
    last = known[-1]
    label = texts.EVIDENCE_PLOT.format(
        rate=percent(last["win_rate"]), low=percent(last["low"]), high=percent(last["high"])
    )
    first, latest = (parse_time(point.get("at")) for point in (known[0], last))
    ends = tuple(f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in (first, latest))
    drawn = [Point(point["win_rate"], point["low"], point["high"]) for point in known]
    return band(drawn, label, (ends[0], ends[1]))
