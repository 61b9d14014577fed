"""What can go wrong in the store.

StoreError
├── StoreLocked    another process owns the file
├── StoreTooNew    the file was written by a newer Trimtab
├── StoreDamaged   the file cannot be read
├── NotFound       no such noun
├── Conflict       the request contradicts what is stored
├── Truncated      a file ends in the middle of a row, or cannot be read on
└── Invalid        a value that the store does not accept
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime


class StoreError(Exception):
    """Base of every error that `store` raises on purpose."""


class StoreLocked(StoreError):
    """Another process owns the file; `pid` and `since` name it where known."""

    def __init__(self, path: str, pid: int | None = None, since: datetime | None = None) -> None:
        self.path, self.pid, self.since = path, pid, since
        who = f"process {pid}" if pid else "another process"
        when = f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
        super().__init__(
            f"{path} is in use by {who}{when}. One process owns the store at a time: use that platform "
            "(the command line finds it by itself), stop it, or choose another data directory with --data."
        )


class StoreTooNew(StoreError):
    """The file's schema version is above the highest that this Trimtab reads."""

    def __init__(self, path: str, version: int, known: int) -> None:
        self.path, self.version, self.known = path, version, known
        super().__init__(
            f"{path} has schema version {version}, this Trimtab reads {known} at most. "
            "Upgrade Trimtab, or restore a backup made by this version."
        )


class StoreDamaged(StoreError):
    """The file cannot be read as a store; `why` is the engine's own message, `advice` the way back."""

    def __init__(self, path: str, why: str, advice: str | None = None) -> None:
        self.path, self.why = path, why
        self.advice = advice or (
            "The way back: with no platform running on it, `trimtab restore BACKUP`, which keeps this file beside the "
            "restored one."
        )
        super().__init__(f"{path} is damaged or is not a Trimtab store: {why.rstrip('. ')}. {self.advice}")


class NotFound(StoreError):
    """There is no `noun` called `ref`."""

    def __init__(self, noun: str, ref: str) -> None:
        self.noun, self.ref = noun, ref
        super().__init__(f"no {noun} {ref!r}")


class Conflict(StoreError):
    """The request contradicts what is stored, for the reason `why`."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class Invalid(StoreError):
    """`field` holds `value`, which is not among what is `accepted` (in words)."""

    def __init__(self, field: str, value: object, accepted: str | Iterable[str]) -> None:
        self.field, self.value = field, value
        self.accepted = accepted if isinstance(accepted, str) else ", ".join(accepted)
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{field}: {shown} is not accepted; accepted: {self.accepted}")


class Truncated(StoreError):
    """A file ends within a row, or cannot be read on: `after_row` whole rows came before; `where` is for people."""

    def __init__(self, after_row: int, where: str) -> None:
        self.after_row, self.where = after_row, where
        super().__init__(f"the file breaks off after row {after_row:,} ({where})")
