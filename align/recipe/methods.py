"""Facts of each training method without torch: the columns of its rows, and whether it has a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RowShape:
    """A method's rows: the columns of their answers and other columns, and whether a reference scores them first."""

    answers: tuple[str, ...]
    others: tuple[str, ...] = ()
    needs_reference: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a snapshot file must have."""
        return ("prompt", *self.answers, *self.others)


ROW_SHAPES: Mapping[str, RowShape] = {
    "dpo": RowShape(("chosen", "rejected")),
    "sft": RowShape(("completion",), needs_reference=False),
    "kto": RowShape(("completion",), ("label",)),
}
