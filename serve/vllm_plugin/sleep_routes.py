"""Two routes of an engine's server that make room on its card: POST /v1/trimtab/sleep and /v1/trimtab/wake.

vLLM has such routes only in its development mode, where they and others that run code need no key. These are below
`/v1`, and ask for the engine's key themselves too, since the order of vLLM's middleware is not fixed.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

SLEEP, WAKE = "/v1/trimtab/sleep", "/v1/trimtab/wake"
LEVEL = 1
"""Weights go to the machine's memory, and the KV cache is discarded."""


class SleepRoutes:
    """ASGI middleware; vLLM loads it by its name (`--middleware`)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one of the two routes, or pass the request on."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in (SLEEP, WAKE):
            await self._app(scope, receive, send)
        elif not _has_key(scope):
            await _answer(send, 401, {"error": "Unauthorized"})
        else:
            await self._change(scope, send)

    async def _change(self, scope: dict[str, Any], send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        client = scope["app"].state.engine_client
        try:
            if scope["path"] == SLEEP:
                # Requests under way end first; their caches would be gone afterwards.
                await client.sleep(LEVEL, "wait")
            else:
                await client.wake_up(None)
        except Exception as error:
            await _answer(send, 500, {"error": {"message": f"{type(error).__name__}: {error}"}})
        else:
            await _answer(send, 200, {"sleeping": scope["path"] == SLEEP})


def _has_key(scope: dict[str, Any]) -> bool:
    wanted = f"Bearer {os.environ.get('VLLM_API_KEY', '')}".encode()
    given = dict(scope.get("headers", ())).get(b"authorization", b"")
    return hmac.compare_digest(given, wanted)


async def _answer(
    send: Callable[[dict[str, Any]], Awaitable[None]], status: int, body: dict[str, Any]
) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
