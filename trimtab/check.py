"""One finding of `trimtab doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it will do, and what was found, in words."""

    what: str
    ok: bool
    said: str

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)
