"""`report.json`: what a run that succeeded says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class TrainReport:
    """The report of one run. A report of an earlier version lacks some fields; they have their defaults then.

    `train` holds `rows`, `dropped` (see `left_out`), rates and the last metrics; `heldout` the measures `before` and
    `after`; `reference` what the reference was; `hardware` what the worker chose; seconds and bytes as named.
    """

    method: str = ""
    qlora: bool = False
    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    training_seconds: float = 0.0
    train: Mapping[str, Any] = field(default_factory=dict)
    heldout: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    trainable_parameters: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    snapshot: str = ""
    notes: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    peak_memory_bytes: int = 0

    @property
    def left_out(self) -> dict[str, int]:
        """Rows that were left out or shortened, by reason; reasons without rows are not listed."""
        dropped = self.train.get("dropped", {})
        return {reason: count for reason, count in dropped.items() if isinstance(count, int) and count}

    def to_dict(self) -> dict[str, Any]:
        """Return what `report.json` holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainReport:
        """Read what `report.json` holds, of this version or an earlier one."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})
