"""Lines of JSON out of a byte stream (application/x-ndjson)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any


async def objects(pieces: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """Yield each line's value; a line ends at \\n alone, since texts may hold what else ends lines (U+2028)."""
    rest: list[bytes] = []
    async for piece in pieces:
        *whole, last = piece.split(b"\n")
        for line in whole:
            rest.append(line)
            if value := b"".join(rest).strip():
                yield json.loads(value)
            rest = []
        rest.append(last)
    if value := b"".join(rest).strip():
        yield json.loads(value)


def line(value: object) -> str:
    """Return a value as a line; half a surrogate pair, which UTF-8 has no bytes for, is written as its escape."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text + "\n"
