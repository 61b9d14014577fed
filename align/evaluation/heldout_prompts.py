"""Held-out prompts without rated answers: what a release is measured on that learned from no vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from align.evaluation.suite_file import Heldout, Suite, WinRate

MIN_PROMPTS = 24
"""Prompts that a suite answers at least, where there are as many: no rated row is there to be scored."""


@dataclass(frozen=True)
class HeldoutPrompts:
    """Rows `{prompt_id, prompt, cluster}`, and the rules by which answers are compared; None: by none."""

    rows: Sequence[dict[str, Any]]
    rules: WinRate | None = None

    def plan_of(self, suite: Suite) -> Suite:
        """Return a suite without what needs rated answers, whose answers are compared by these rules alone."""
        answered = suite.with_answers(MIN_PROMPTS).measurements
        kept = [part for part in answered if not isinstance(part, Heldout | WinRate)]
        return Suite(measurements=(*kept, *([self.rules] if self.rules else ())))
