"""Base of the records: what has an id, as the store hands it out.

A record is a frozen dataclass beside the functions of its noun. Times are aware, in UTC. A record never holds a secret.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from store.values import Demonstration, Message, PreferencePair


class Record:
    """Base of the records: `to_json` turns every field into JSON values, times into ISO 8601 with Z."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        assert is_dataclass(self)
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Record | Message | PreferencePair | Demonstration):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
