"""What an import says about its rows beside the counts: which rules changed how a row was read, what was not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

MAX_COLUMNS = 1000
"""Different columns that are counted at most; rows of JSON may each have their own."""

_row: ContextVar[Notes | None] = ContextVar("row", default=None)


@dataclass(slots=True)
class Notes:
    """What was noted about one row."""

    rules: set[str] = field(default_factory=set)
    unused: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Tally:
    """How many rows each rule changed and each unused column had a value in."""

    rules: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)

    def add(self, notes: Notes) -> None:
        """Count a row that was taken."""
        self.rules.update(notes.rules)
        for column in notes.unused:
            if column in self.unused or len(self.unused) < MAX_COLUMNS:
                self.unused[column] += 1


def rule(name: str) -> None:
    """Note that a rule changed how the row at hand is read."""
    if (notes := _row.get()) is not None:
        notes.rules.add(name)


def unused(column: str) -> None:
    """Note that a column (or a key of its messages) of the row at hand is not used."""
    if (notes := _row.get()) is not None:
        notes.unused.add(column.encode("utf-8", "backslashreplace").decode())


@contextmanager
def collect() -> Iterator[Notes]:
    """Collect what is noted about a row."""
    notes = Notes()
    token = _row.set(notes)
    try:
        yield notes
    finally:
        _row.reset(token)
