"""Counts and refused rows of an import."""

from __future__ import annotations

from dataclasses import dataclass, field

from store.db.record import Record


@dataclass(frozen=True, slots=True)
class RejectedRow(Record):
    """A row that an import refused: its number in the input, from 1, and the reason."""

    row: int
    why: str


@dataclass(frozen=True, slots=True)
class ImportResult(Record):
    """What became of an import's rows: counts, and the first refused rows (`rejected_count` counts all).

    Of the rows that were not refused: `unused_columns` counts by column those that have a value in it that was not used,
    `rules` by name (store.import_notes) those that a rule changed the reading of.
    """

    id: str
    accepted: int
    duplicates: int
    rejected: tuple[RejectedRow, ...] = ()
    rejected_count: int = 0
    unused_columns: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
