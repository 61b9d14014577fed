"""An OpenAI-compatible endpoint, asked one chat completion at a time, and why it may refuse."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from align.errors import AlignError
from align.evaluation.answering.streamed_answer import StreamedAnswer

CLOSED = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
"""What a request meets on a kept connection that the server closes at the same moment, or at a server that is too busy to
accept one; it may be asked again."""


class EvaluationError(AlignError):
    """The suite cannot be run: an unknown suite, or the platform refuses or fails a request."""

    kind = "evaluation"


class RowRefused(EvaluationError):
    """The platform takes no request for this row: its chat template refuses the conversation, or it is too long."""


class BrokenOff(EvaluationError):
    """The engine was lost after a streamed answer had begun; what is not streamed gets a 503 then."""


RETRY_S = 1.0
"""Seconds before a request is sent again where the platform does not say how many."""


class ChatApi:
    """An OpenAI-compatible endpoint: `async with ChatApi("http://127.0.0.1:7860", key=...) as api`.

    At most `concurrency` requests are open at once. A request is asked again up to `retries` times where the platform is
    overloaded (429, 503), after as long as it says, or lost the engine or the connection. Without `timeout_s` the platform
    alone decides how long an answer may take: it knows a busy engine from a dead one.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        concurrency: int = 4,
        timeout_s: float | None = None,
        retries: int = 5,
    ) -> None:
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={**authorization, **(headers or {})},
            timeout=httpx.Timeout(timeout_s, connect=10.0),
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._retries = retries

    async def __aenter__(self) -> ChatApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def chat(self, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Return the answer to one chat completion and the seconds it took.

        Raises `EvaluationError` when the platform cannot be reached or answers with an error, `RowRefused` when it does
        not take the request.
        """
        answer, seconds, _ = await self._ask(body)
        return answer, seconds

    async def stream(self, body: dict[str, Any]) -> tuple[dict[str, Any], float, float | None]:
        """Return the same as `chat`, and the seconds to the first token; None where the endpoint does not stream."""
        return await self._ask({**body, "stream": True, "stream_options": {"include_usage": True}})

    async def _ask(self, body: dict[str, Any]) -> tuple[dict[str, Any], float, float | None]:
        async with self._slots:
            for attempt in range(self._retries + 1):
                started = time.perf_counter()
                sent = self._client.stream("POST", "/v1/chat/completions", json={**body, "store": False})
                try:
                    async with sent as answer:
                        found, first = await self._read(answer, started)
                except CLOSED as error:
                    if attempt == self._retries:
                        raise EvaluationError(f"the platform cannot be reached: {error!r}") from error
                    continue
                except BrokenOff:
                    if attempt == self._retries:
                        raise
                    await asyncio.sleep(RETRY_S)
                    continue
                except httpx.HTTPError as error:
                    raise EvaluationError(f"the platform cannot be reached: {error!r}") from error
                if found is not None:
                    return found, time.perf_counter() - started, first
                if answer.status_code not in (429, 503) or attempt == self._retries:
                    break
                await asyncio.sleep(_retry_after(answer))
        kind = RowRefused if answer.status_code == 400 else EvaluationError
        raise kind(f"{body['model']}: HTTP {answer.status_code}: {_message(answer)}")

    @staticmethod
    async def _read(answer: httpx.Response, started: float) -> tuple[dict[str, Any] | None, float | None]:
        """Return what a response says, and when its first token came; None for one that is no success."""
        if answer.status_code != 200 or not answer.headers.get("content-type", "").startswith(
            "text/event-stream"
        ):
            await answer.aread()
            return (answer.json() if answer.status_code == 200 else None), None
        collected = StreamedAnswer()
        first = None
        async for line in answer.aiter_lines():
            data = line.removeprefix("data:").strip()
            if not line.startswith("data:") or data == "[DONE]":
                continue
            if collected.add(json.loads(data)) and first is None:
                first = time.perf_counter() - started
        if collected.error is not None:
            kind = BrokenOff if collected.error_code == "stream_broken" else EvaluationError
            raise kind(f"the answer broke off: {collected.error}")
        return collected.answer(), first


def choice_of(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first choice of a chat completion, an empty one where it has none."""
    found: Mapping[str, Any] = next(iter(completion.get("choices") or ()), {})
    return found


def content_of(completion: Mapping[str, Any]) -> str:
    """Return the text of a chat completion, empty where it has none."""
    return str((choice_of(completion).get("message") or {}).get("content") or "")


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(30.0, max(0.1, float(answer.headers.get("retry-after", RETRY_S))))
    except ValueError:
        return RETRY_S


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
