"""What a suite keeps of each single measurement: an item is one release on one row, prompt or text.

Every figure of a report is computed from items alone (align.evaluation.report), so that it opens down to the texts
behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SIDES = ("release", "against", "anchor")
NEUTRAL = "neutral:"
"""What the reference of an item begins with whose prompt is of the neutral set and not of the store."""


@dataclass(frozen=True)
class Item:
    """One measurement of one release.

    `measure` is the kind of measurement, `item` names what was asked and is the same for every side, `reference` is the
    store's row or the neutral entry that the prompt is of. The answer is text that the release generated.
    """

    measure: str
    cluster: str
    item: str
    side: str
    reference: str | None = None
    answer: str | None = None
    finish_reason: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    value: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return its fields by name."""
        return asdict(self)


def from_json(fields: Mapping[str, Any]) -> Item:
    """Return the item that `to_json` made these fields of; further fields are left out."""
    return Item(**{name: fields[name] for name in Item.__dataclass_fields__ if name in fields})


def digest(text: str) -> str:
    """Name a text without holding it: a cluster's name must not keep what somebody said."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def by_item(items: Iterable[Item], measure: str) -> dict[str, dict[str, Item]]:
    """Return the items of one measurement, by what was asked and then by side, in their order."""
    found: dict[str, dict[str, Item]] = {}
    for item in items:
        if item.measure == measure:
            found.setdefault(item.item, {})[item.side] = item
    return found


def paired(found: Mapping[str, Mapping[str, Item]], *sides: str) -> list[Sequence[Item]]:
    """Return the items of these sides where all of them are there, together."""
    return [[one[side] for side in sides] for one in found.values() if all(side in one for side in sides)]
