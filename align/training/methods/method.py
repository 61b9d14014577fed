"""What a training method is: the interface that each file of this folder implements once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from peft import PeftModel

from align.recipe.recipe import Recipe
from align.training.scoring import Scores
from align.training.session import Session
from align.training.texts.data import Row
from align.training.trainer import Trained
from common.training_methods import Method as MethodName


class Method(Protocol):
    """One way to train. The columns of its rows are `align.recipe.methods.ROW_SHAPES[name]`."""

    name: MethodName
    needs_reference: bool

    def check(self, rows: Sequence[Row]) -> None:
        """Raise `DataError` for rows that the method cannot learn from."""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows whose log-probabilities under the reference `fit` needs, in that order."""

    def fit(
        self, session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
    ) -> Trained:
        """Train the model's adapter in place. Raises as `align.training.trainer.train`."""

    def measures(
        self, rows: Sequence[Row], policy: Scores, reference: Scores | None, recipe: Recipe
    ) -> dict[str, Any]:
        """Return the held-out measures of `policy`; `reference` is None for the reference itself."""
