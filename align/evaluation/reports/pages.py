"""An evaluation's report for people: one self-contained HTML page, or Markdown.

Pure functions of the report and of the items, whose texts are shown side by side. Models write these texts: HTML is escaped,
and the page loads nothing and runs no script.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from align.evaluation.gate import LESS_IS_BETTER

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SHOWN = 60
"""Pairs of answers that a page shows."""

WIDTH = 360

# What each part is about, by the beginning of a measure's name.
PARTS: dict[str, tuple[str, ...]] = {
    "Win rates": ("win_rate", "people_", "judge_", "both_bad_share", "instruction_following"),
    "Held-out rows": ("reward_", "anchor_reward_", "preference_", "chosen_logp_per_token", "loss"),
    "Drift": ("kl", "drift", "perplexity", "anchor_perplexity"),
    "Health of the answers": ("",),
}
SIDES = ("release", "against", "difference", "anchor", "anchor_difference", "unproven")


@dataclass(frozen=True)
class Answer:
    """One generated answer as a page shows it."""

    text: str
    facts: str


@dataclass(frozen=True)
class SideBySide:
    """A prompt with the answers of both releases, and who won by the rules or the judge."""

    prompt: str
    kind: str
    release: Answer | None
    against: Answer | None
    won: str


def page(report: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """Return the report as HTML. An item has the fields of align.evaluation.items.Item, and its `prompt`."""
    return str(
        _template().render(
            report=report,
            parts=list(parts_of(report)),
            pairs=list(side_by_side(items))[:SHOWN],
            sides=SIDES,
            number=number,
            bar=interval_bar,
        )
    )


def markdown(report: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """Return the report as Markdown."""
    lines = [f"# {_cell(_title(report))}", "", _facts(report), ""]
    for part, measures in parts_of(report):
        shown = [side for side in SIDES if any(side in sides for sides in measures.values())]
        lines += [f"## {part}", "", _row(["measure", *(side.replace("_", " ") for side in shown)])]
        lines += [_row(["---"] * (len(shown) + 1))]
        for name, sides in measures.items():
            lines.append(_row([name.replace("_", " "), *(estimate(sides.get(side)) for side in shown)]))
        lines.append("")
    pairs = list(side_by_side(items))[:SHOWN]
    if pairs:
        lines += ["## Answers", ""]
    for pair in pairs:
        lines += [f"### {_cell(pair.kind)}{': ' if pair.won else ''}{pair.won}", "", _fenced(pair.prompt)]
        for side, answer in (("release", pair.release), ("against", pair.against)):
            if answer is not None:
                name = _cell(str(report.get(side) or side))
                lines += ["", f"**{name}** ({answer.facts})", "", _fenced(answer.text)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def parts_of(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Mapping[str, Any]]]]:
    """Return the measures by part; each measure stands in the first part that names it."""
    left = dict(report.get("measures") or {})
    for part, beginnings in PARTS.items():
        found = {name: left.pop(name) for name in list(left) if name.startswith(beginnings)}
        if found:
            yield part, found


def side_by_side(items: Sequence[Mapping[str, Any]]) -> Iterator[SideBySide]:
    """Return the generated answers, both releases' to the same prompt together, in order."""
    pairs: dict[str, dict[str, Mapping[str, Any]]] = {}
    wins: dict[str, list[str]] = {}
    for item in items:
        if item["measure"] in ("answer", "instruction"):
            pairs.setdefault(item["item"], {})[item["side"]] = item
        elif item["measure"] in ("win", "judge"):
            by = "rules" if item["measure"] == "win" else "judge"
            wins.setdefault(item["item"], []).append(f"{_won(item['value'])} by {by}")
    for name, sides in pairs.items():
        first = next(iter(sides.values()))
        kind = "instruction" if first["measure"] == "instruction" else str(first["detail"].get("kind", ""))
        prompt = first.get("prompt") or [
            {"role": "user", "content": first["detail"].get("prompt", "(not kept)")}
        ]
        yield SideBySide(
            "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt),
            f"{kind}, {first['detail'].get('sampling', '')}",
            _answer(sides.get("release")),
            _answer(sides.get("against")),
            ", ".join(wins.get(name, ())),
        )


def _won(value: float | None) -> str:
    if value is None:
        return "no verdict"
    return "tie" if value == 0.5 else "new release won" if value > 0.5 else "new release lost"


def _answer(item: Mapping[str, Any] | None) -> Answer | None:
    if item is None:
        return None
    seconds = item.get("seconds")
    facts = [str(item.get("finish_reason") or "no finish_reason"), f"{item.get('tokens')} tokens"]
    if seconds is not None:
        facts.append(f"{seconds:.1f} s")
    if item["measure"] == "instruction" and item.get("value") is not None:
        facts.append(f"{item['value']:.0%} of the rules followed")
    return Answer(str(item.get("answer") or ""), ", ".join(facts))


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    return "–" if value is None else f"{value:.3g}"


def estimate(found: Mapping[str, Any] | None) -> str:
    """Return an estimate with its interval and number, as text."""
    if not found:
        return ""
    if found.get("low") is None or found.get("high") is None:
        return f"{number(found['value'])} (n={found['n']})"
    return f"{number(found['value'])} ({number(found['low'])} to {number(found['high'])}, n={found['n']})"


def interval_bar(name: str, sides: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return where to draw a measure's interval: a difference around 0, a win rate around 1/2, a ratio around 1.

    None where there is nothing to compare with.
    """
    found, middle = sides.get("difference"), 0.0
    if not found:
        found = sides.get("release") or sides.get("unproven")
        reference = {"ratio": 1.0, "win_rate": 0.5, "reward_accuracy": 0.5, "reward_margin": 0.0}
        known = [at for part, at in reference.items() if part in name]
        if not known:
            return None
        middle = known[0]
    known_ends = [found.get(end) for end in ("low", "value", "high")] if found else []
    ends = [float(end) for end in known_ends if end is not None and math.isfinite(end)]
    if len(ends) < 3:
        return None
    reach = max(abs(end - middle) for end in ends) * 1.15 or 1.0
    low, value, high = (round(WIDTH * (0.5 + (end - middle) / reach / 2), 1) for end in ends)
    better = "neutral"
    if ends[0] > middle or ends[2] < middle:
        less = name in LESS_IS_BETTER
        better = "neutral" if "length" in name else "good" if (ends[0] > middle) != less else "bad"
    return {"low": low, "value": value, "high": high, "middle": WIDTH / 2, "at": middle, "class": better}


def _title(report: Mapping[str, Any]) -> str:
    against = report.get("against")
    return f"{report.get('release')} against {against}" if against else str(report.get("release"))


def _facts(report: Mapping[str, Any]) -> str:
    refused = report.get("refused") or {}
    parts = [f"suite {report.get('suite')}", f"{report.get('rows', 0)} held-out rows"]
    if report.get("anchor"):
        parts.append(f"anchor {report['anchor']}")
    if report.get("seconds") is not None:
        parts.append(f"{report['seconds']:.0f} s")
    if refused.get("rows"):
        parts.append(f"{refused['rows']} rows refused")
    return _cell("; ".join(parts)) + ". Intervals are at 95%; n counts independent prompts."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return re.sub(r"([\\|<`*\[\]])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    """Return text as a code block that nothing within it ends."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined  # on first use

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["estimate"] = estimate
    environment.globals.update(title_of=_title, facts_of=lambda report: _facts(report).replace("\\", ""))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
