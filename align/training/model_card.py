"""The model card (README.md) that travels with an adapter: what it is, made from what, and how good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.prepare import MANIFEST
from align.report import TrainReport
from align.run_directory import RunSpec


def write_card(directory: Path, spec: RunSpec, report: TrainReport) -> None:
    """Write `README.md` into the adapter's directory. The same run gives the same text, byte for byte."""
    base = spec.base_name or spec.base_model
    licence = spec.licence or base_licence(spec.base_model)
    params = report.recipe["params"]
    lines = [
        "---",
        f"base_model: {json.dumps(base)}",
        "library_name: peft",
        *([f"license: {licence}"] if licence else []),
        f"tags: [trimtab, {spec.method}, lora]",
        "---",
        "",
        f"# LoRA adapter of {base}, trained with {spec.method.upper()}",
        "",
        f"- base model: `{base}` ({'quantised to ' + spec.quantization if report.qlora else 'full precision'})",
        f"- licence of the base: {licence or 'unknown; see the base model'}",
        f"- data: snapshot `{spec.snapshot}`, {report.train['rows']} rows",
        f"- reference: {_reference(report.reference)}",
        f"- steps: {report.steps}; trainable parameters: {report.trainable_parameters}",
        f"- made with: {', '.join(f'{k} {v}' for k, v in report.versions.items())}",
        "",
        "## Held-out measures",
        "",
        "| measure | before | after |",
        "| --- | --- | --- |",
        *_measures(report.heldout),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(params, indent=1, sort_keys=True),
        "```",
        "",
    ]
    (directory / "README.md").write_text("\n".join(lines))


def base_licence(model: str) -> str | None:
    """Return the licence that a prepared base model's manifest or card states, or None."""
    manifest = Path(model) / MANIFEST
    if manifest.is_file():
        value = json.loads(manifest.read_text()).get("licence")
        return str(value) if value else None
    card = Path(model) / "README.md"
    if card.is_file():
        for line in card.read_text(errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.partition(":")[2].strip() or None
    return None


def _reference(facts: Mapping[str, Any]) -> str:
    return "the base model" if facts["kind"] == "base" else f"adapter `{Path(facts['adapter']).name}`"


def _measures(heldout: Mapping[str, Any]) -> list[str]:
    before, after = heldout["before"], heldout["after"]
    return [
        f"| {name} | {_cell(before.get(name))} | {_cell(after.get(name))} |" for name in after if name != "n"
    ]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        # one prompt has no interval
        interval = "" if value["low"] is None else f"{value['low']:.4g} to {value['high']:.4g}, "
        return f"{value['value']:.4g} ({interval}n={value['n']})"
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
