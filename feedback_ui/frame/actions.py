"""What every screen asks first: who am I, and does the platform serve yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from feedback_ui import texts
from trimtab_client import ApiError, AsyncClient, PlatformUnreachable


@dataclass(frozen=True)
class Readiness:
    """Whether models answer; while they don't, what is missing and the last lines of the loading engine's log."""

    ready: bool
    missing: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    failed: bool = False
    word: str = field(default="")


async def whoami(client: AsyncClient) -> dict[str, Any] | None:
    """Return the caller's principal; None when the platform does not answer or nobody is signed in."""
    try:
        return dict(await client.whoami())
    except ApiError:
        return None


async def readiness(client: AsyncClient) -> Readiness:
    """Ask whether every engine serves; never raises, an unreachable platform is not ready."""
    try:
        status = await client.status()
    except PlatformUnreachable:
        return Readiness(False, (texts.UNREACHABLE,), word=texts.OFFLINE)
    except ApiError:
        return await _from_probe(client)
    waiting = [engine for engine in status.get("engines", ()) if engine.get("state") != "ready"]
    log = tuple(line for engine in waiting for line in (engine.get("log_tail") or ())[-1:])
    missing = tuple(status.get("missing", ()))
    failed = any(engine.get("state") == "failed" for engine in waiting)
    ready = bool(status.get("ready"))
    return Readiness(ready, missing, log, failed, texts.READY if ready else texts.LOADING)


async def _from_probe(client: AsyncClient) -> Readiness:
    """Ask the public probe, for a role that may not read the status."""
    try:
        await client.request("GET", "/readyz")
    except ApiError as error:
        word = texts.LOADING if error.status == 503 else texts.OFFLINE
        return Readiness(False, (error.detail,), word=word)
    return Readiness(True, word=texts.READY)
