"""Plots as HTML: they load nothing, follow the colour scheme and have their figures as text for screen readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from feedback_ui.html import esc

_WIDTH, _HEIGHT = 600.0, 100.0


@dataclass(frozen=True)
class Point:
    """One value with its interval; `None` where there is no value yet."""

    value: float | None
    low: float
    high: float


def band(points: Sequence[Point], label: str, ends: tuple[str, str], middle: float = 0.5) -> str:
    """Render values from 0 to 1 over time as a line within its interval, beside a line at `middle`.

    `label` says what is seen; `ends` are the first and the last time.
    """
    if not points:
        return ""
    step = _WIDTH / max(1, len(points) - 1)

    def at(place: int, share: float) -> str:
        return f"{place * step:.1f},{(1 - share) * _HEIGHT:.1f}"

    # one point is a line across, so that it can be seen
    spread = list(points) * 2 if len(points) == 1 else list(points)
    upper = [at(place, point.high) for place, point in enumerate(spread)]
    lower = [at(place, point.low) for place, point in enumerate(spread)]
    line = " ".join(at(place, p.value) for place, p in enumerate(spread) if p.value is not None)
    level = (1 - middle) * _HEIGHT
    return (
        f'<figure class="tt-plot" role="img" aria-label="{esc(label)}"><div class="tt-plot-scale" aria-hidden="true">'
        f"<span>100%</span><span>{middle:.0%}</span><span>0%</span></div>"
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon class="tt-plot-band" points="{" ".join([*upper, *reversed(lower)])}"/>'
        f'<line class="tt-plot-level" x1="0" x2="{_WIDTH:.0f}" y1="{level:.0f}" y2="{level:.0f}"/>'
        f'<polyline class="tt-plot-line" points="{line}"/></svg>'
        f'<figcaption aria-hidden="true"><span>{esc(ends[0])}</span><span>{esc(ends[1])}</span></figcaption></figure>'
    )


@dataclass(frozen=True)
class Bar:
    """One bar: what it is of, its length, and what stands behind it."""

    label: str
    value: float
    said: str
    tone: str = ""


def bars(rows: Iterable[Bar], label: str) -> str:
    """Render bars below each other on one scale that begins at 0."""
    shown = list(rows)
    if not shown:
        return ""
    most = max(row.value for row in shown) or 1.0
    items = "".join(
        f"<li><span>{esc(row.label)}</span>"
        f'<i class="{esc(row.tone)}" style="width:{max(row.value / most, 0) * 100:.1f}%"></i>'
        f"<small>{esc(row.said)}</small></li>"
        for row in shown
    )
    return f'<ul class="tt-bars" aria-label="{esc(label)}">{items}</ul>'


def paired(labels: Sequence[str], series: Sequence[tuple[str, Sequence[int]]], label: str) -> str:
    """Render one or two rows of bars beside each other, one group for each of `labels`; all begin at 0."""
    most = max((value for _, values in series for value in values), default=0) or 1
    tones = ("", "tt-other")
    legend = "".join(
        f'<span><i class="tt-dot {tone or "tt-share-stable"}"></i>{esc(name)}</span>'
        for (name, _), tone in zip(series, tones, strict=False)
    )
    items = ""
    for place, title in enumerate(labels):
        drawn = "".join(
            f'<i class="{tone}" style="width:{values[place] / most * 100:.1f}%"></i>'
            for (_, values), tone in zip(series, tones, strict=False)
        )
        said = " / ".join(f"{values[place]:,}" for _, values in series)
        items += f"<li><span>{esc(title)}</span><div>{drawn}</div><small>{said}</small></li>"
    return f'<div class="tt-legend">{legend}</div><ul class="tt-bars" aria-label="{esc(label)}">{items}</ul>'
