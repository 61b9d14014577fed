"""A comparison of several releases or models as a table, and as one self-contained HTML page with intervals drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from align.evaluation.reports.pages import PARTS, WIDTH, estimate, number
from align.evaluation.ways import PRIMARY

TEMPLATE = Path(__file__).with_name("comparison.html.jinja")
MARGIN = 8


@dataclass(frozen=True)
class Line:
    """One model's figure: its text, and where its interval is drawn."""

    name: str
    text: str
    bar: Mapping[str, float] | None


def page(result: Mapping[str, Any]) -> str:
    """Return a comparison's result as HTML."""
    rows = table(result)
    return str(
        _template().render(
            title=" / ".join(str(model["model"]) for model in result["models"].values()),
            suite=result.get("suite"),
            baseline=result["models"][result["baseline"]]["model"],
            recommended=result.get("recommended"),
            why=result.get("why"),
            headings=list(rows[0]),
            rows=[list(row.values()) for row in rows],
            parts=[(part, list(found)) for part, found in _parts(result["models"])],
        )
    )


def table(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row of texts per model, or per way, by heading; headings without any figure are left out."""
    costs = {row["way"]: row for row in result.get("ways", ())}
    order = list(costs) or list(result["models"])
    rows = [_row(name, result["models"][name], costs.get(name), result.get("by")) for name in order]
    used = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    return [{heading: row[heading] for heading in used} for row in rows]


def _row(
    name: str, model: Mapping[str, Any], way: Mapping[str, Any] | None, by: str | None
) -> dict[str, str]:
    speed, measures = model["speed"], model["measures"]
    quality = by or next((one for one in PRIMARY if one in measures), None)
    cost = (way or {}).get("cost") or {}
    minutes, size = cost.get("training_minutes"), cost.get("adapter_bytes")
    return {
        "name": name,
        "model": model["model"] if model["model"] != name else "",
        "quality": _quality(measures, quality),
        "instructions": estimate(measures.get("instruction_following", {}).get("release")),
        "gate": _gate(way),
        "prompt tokens": _figure(speed, "prompt_tokens", "{:.0f}"),
        "first token s": _figure(speed, "first_token_s", "{:.3f}"),
        "tokens/s": _figure(speed, "tokens_per_second", "{:.1f}"),
        "training min": "" if minutes is None else f"{minutes:.1f}",
        "adapter MB": "" if size is None else f"{size / 1e6:.1f}",
        "added s/day": f"{cost['seconds_per_day']:.0f}" if cost else "",
        "engine memory": _bytes(model.get("engine_bytes")),
        "licence": str(model.get("licence") or ""),
    }


def _quality(measures: Mapping[str, Any], name: str | None) -> str:
    found = measures.get(name or "", {}).get("release")
    return f"{(name or '').replace('_', ' ')} {estimate(found)}" if found else ""


def _gate(way: Mapping[str, Any] | None) -> str:
    if way is None or "gate" not in way:
        return ""
    return "passes" if way["passes"] else f"{way['gate']}{'' if way['better'] else ', not better'}"


def _figure(speed: Mapping[str, Any], name: str, form: str) -> str:
    return form.format(speed[name]["median"]) if name in speed else ""


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e9:.2f} GB"


def _parts(models: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[tuple[str, list[Line]]]]]:
    """Return the measures by part, as an evaluation's report has them, each with a line per model."""
    left = list(dict.fromkeys(name for model in models.values() for name in model["measures"]))
    for part, beginnings in PARTS.items():
        found = [name for name in left if name.startswith(beginnings)]
        left = [name for name in left if name not in found]
        if found:
            yield part, ((name.replace("_", " "), _lines(models, name)) for name in found)


def _lines(models: Mapping[str, Any], measure: str) -> list[Line]:
    found = {name: _shown(model["measures"].get(measure, {})) for name, model in models.items()}
    known = {name: one for name, one in found.items() if one}
    ends = [
        one[end] for one in known.values() for end in ("low", "value", "high") if _is_number(one.get(end))
    ]
    span = (min(ends), max(ends)) if ends else (0.0, 0.0)
    return [Line(name, estimate(one) or number(None), _bar(one, span)) for name, one in known.items()]


def _shown(sides: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sides.get("release") or sides.get("unproven") or {})


def _bar(one: Mapping[str, Any], span: Sequence[float]) -> dict[str, float] | None:
    """Return where an interval is drawn between the lowest and the highest end of all models."""
    if not all(_is_number(one.get(end)) for end in ("low", "value", "high")):
        return None
    width = span[1] - span[0] or 1.0
    scale = (WIDTH - 2 * MARGIN) / width
    return {end: round(MARGIN + (one[end] - span[0]) * scale, 1) for end in ("low", "value", "high")}


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined  # on first use

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
