"""Errors of the composition root.

```
TrimtabError
├── SettingsError        the settings file or environment is wrong; lists every fault at once
├── PortInUse            somebody listens on the address already
├── UnsafeAddress        refuses to listen beyond this machine while nobody has to sign in
├── PlatformNotFound     the command line found no running platform
├── StoreNotFound        a data directory holds no store
├── PathRefused          the system does not let a path be used
├── ModelRefused         a base model can't be added or removed; carries field and accepted
│   └── ExportRefused    a release can't be exported
└── ModelNotPrepared     a model directory is missing and could not be made
```
"""

from __future__ import annotations

from typing import Any


class TrimtabError(Exception):
    """Base of the composition root's errors; its text is meant for the operator."""


class SettingsError(TrimtabError):
    """The settings are wrong. `faults` has a sentence for each one."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class PortInUse(TrimtabError):
    """The address is taken."""


class UnsafeAddress(TrimtabError):
    """Would be reachable from other machines with no user or key defined."""


class PlatformNotFound(TrimtabError):
    """No platform runs where the command line looked."""


class StoreNotFound(TrimtabError):
    """There is no store in the data directory, and what was asked for must not make one."""


class PathRefused(TrimtabError):
    """The system refuses to open or write `path`, for the reason `why`; `full` where its disk has no room."""

    def __init__(self, path: str, why: str, full: bool = False) -> None:
        self.path, self.why, self.full = path, why, full
        super().__init__(f"{path} cannot be used: {why}")


class ModelRefused(TrimtabError):
    """A base model can't be added or removed: `field` is at fault, `accepted` says what it takes."""

    def __init__(self, field: str, why: str, accepted: str) -> None:
        self.field, self.why, self.accepted = field, why, accepted
        super().__init__(f"{field}: {why}; accepted: {accepted}")


class ExportRefused(ModelRefused):
    """A release can't be exported."""


class ModelNotPrepared(TrimtabError):
    """A base model's directory is missing and could not be made."""


def error_facts(error: BaseException) -> dict[str, Any]:
    """Return what a run's or an evaluation's record keeps of an error: `{kind, message}`."""
    return {"kind": type(error).__name__, "message": str(error) or type(error).__name__}
