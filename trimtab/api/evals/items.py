"""Items of an evaluation as they are shown."""

from __future__ import annotations

from typing import Any

from align.evaluation.items import NEUTRAL
from align.evaluation.neutral import prompt_of
from trimtab.api.evals.models import EvalItemView


def item_view(row: dict[str, Any]) -> EvalItemView:
    """One item, with its prompt where that is still known."""
    reference = row["reference"] or ""
    if row["prompt"] is None and reference.startswith(NEUTRAL):
        text = prompt_of(reference.removeprefix(NEUTRAL))
        row = {**row, "prompt": None if text is None else [{"role": "user", "content": text}]}
    elif "prompt" in row["detail"]:  # a generated one
        row = {**row, "prompt": [{"role": "user", "content": row["detail"]["prompt"]}]}
    return EvalItemView(number=row["seq"], **{name: value for name, value in row.items() if name != "seq"})
