"""Which HTTP status, and which stable code, each error of serving and of the store is answered with.

The gateway answers with it in OpenAI's form, the operations API in problem details; nothing is decided on the text of
a message.
"""

from __future__ import annotations

from dataclasses import dataclass

from serve.engine.stream_client import StreamBroken
from serve.errors import (
    AdapterNotLoaded,
    AdapterRefused,
    DrainTimeout,
    EngineFailed,
    EngineUnavailable,
    ParityFailed,
    ProcessFailed,
    ServeError,
)
from store.errors import Conflict, Invalid, NotFound, StoreError, Truncated
from store.transfer.decompression import BreaksOff

RETRY_S = 5
"""After how many seconds to try again what may work then."""


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to one class of errors; `field` is the field of the request that is at fault."""

    status: int
    code: str
    field: str | None = None
    retry: bool = False


STATUSES: dict[type[Exception], Status] = {
    EngineUnavailable: Status(503, "engine_unavailable", retry=True),
    ProcessFailed: Status(503, "process_failed", retry=True),
    EngineFailed: Status(502, "engine_failed"),
    AdapterNotLoaded: Status(502, "adapter_not_loaded"),
    StreamBroken: Status(502, "stream_broken"),
    AdapterRefused: Status(422, "adapter_refused", "adapter"),
    ParityFailed: Status(422, "parity_failed", "adapter"),
    DrainTimeout: Status(409, "drain_timeout", retry=True),
    ServeError: Status(500, "serving_failed"),
    NotFound: Status(404, "not_found"),
    Conflict: Status(409, "conflict"),
    Invalid: Status(422, "invalid"),
    Truncated: Status(422, "truncated"),
    BreaksOff: Status(422, "truncated"),
    StoreError: Status(503, "store_unavailable"),
}


def status_of(error: BaseException) -> Status | None:
    """Return what an error is answered with, by its nearest class in `STATUSES`."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)


def retry_after(error: BaseException, status: Status) -> dict[str, str]:
    """Return the header `Retry-After` where trying again may help."""
    return {"Retry-After": str(getattr(error, "retry_after_s", RETRY_S))} if status.retry else {}
