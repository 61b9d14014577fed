"""Server-sent events, read: bytes in, events out.

Knows the wire format (https://html.spec.whatwg.org/multipage/server-sent-events.html) and nothing of what the
events mean. The gateway does not use it: it passes streams through as bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `data` has its lines joined by a newline."""

    data: str
    event: str = "message"
    id: str | None = None


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Yield the events of a stream given as lines without their line ends; comments are skipped."""
    data: list[str] = []
    kind, ident = "message", None
    async for line in lines:
        if not line:
            if data:
                yield Event("\n".join(data), kind, ident)
            data, kind = [], "message"
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id":
            ident = value
    if data:
        yield Event("\n".join(data), kind, ident)
