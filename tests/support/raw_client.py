"""A client down to its socket, for what HTTP libraries do not do: leave at once, read nothing, close one half."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[str, int, bytes]:
    """Return the host and port of `url`, and the bytes of a POST of `body` as JSON to send there."""
    to, content = urlsplit(url), json.dumps(body).encode()
    assert to.hostname
    assert to.port
    fields = {"Host": to.netloc, "Content-Type": "application/json", "Content-Length": str(len(content))}
    lines = [
        f"POST {to.path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in (fields | {**headers}).items()),
    ]
    return to.hostname, to.port, "\r\n".join([*lines, "", ""]).encode() + content
