"""A streamed answer as pieces of text, each with the release that gave it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from trimtab_client.errors import ApiError
from trimtab_client.sse import events


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of a streamed answer: new `text` (may be empty) and its origin.

    `reasoning` is new text of what the model thinks before it answers, `tool_calls` are pieces of tool calls in OpenAI's
    form: those of one call have the same `index`.
    `release` is `assistant@3`, `lane` stable, canary, pinned or base, `completion_id` what `like` takes, and
    `conversation` the id under which the turn is recorded.
    """

    text: str
    release: str
    lane: str
    completion_id: str
    conversation: str | None
    finish_reason: str | None = None
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()


async def deltas(response: httpx.Response) -> AsyncIterator[ChatDelta]:
    """Read the pieces of a streamed answer; raises `ApiError` for an error within the stream."""
    release = response.headers.get("x-trimtab-release", "")
    lane = response.headers.get("x-trimtab-lane", "")
    conversation = response.headers.get("x-trimtab-conversation")
    async for event in events(response.aiter_lines()):
        if event.data == "[DONE]":
            continue  # to the end of the body: the platform records the turn before it closes that
        chunk = json.loads(event.data)
        if error := chunk.get("error"):
            message = error.get("message", "") if isinstance(error, dict) else str(error)
            code = error.get("code") if isinstance(error, dict) else None
            raise ApiError(code if isinstance(code, int) else 502, "stream_failed", message)
        for choice in chunk.get("choices", []):
            delta = choice.get("delta") or {}
            yield ChatDelta(
                delta.get("content") or "",
                release,
                lane,
                chunk.get("id", ""),
                conversation,
                choice.get("finish_reason"),
                delta.get("reasoning") or delta.get("reasoning_content") or "",
                tuple(delta.get("tool_calls") or ()),
            )
