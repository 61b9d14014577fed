"""Passes a request to an engine and its answer to the client, as the engine's own bytes.

An answer that has begun is always returned as an `Answer`, however it ended; until then a failure is raised, so that
the caller may fall back to another release.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Send

from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.stream_client import Connection, StreamBroken
from serve.gateway import requests, responses
from serve.gateway.admission import Admitted
from serve.gateway.exchange import Answer
from serve.gateway.metrics import Metrics
from serve.gateway.openai_paths import CHAT
from serve.gateway.stream_rewriter import StreamRewriter, model_field
from serve.gateway.upstream import RESTART_S, EngineLost, Upstream, whole
from serve.metering import token_estimate
from serve.metering.limits import Limits
from serve.metering.usage_counter import Used
from serve.router import Target

EVENTS = b"text/event-stream; charset=utf-8"
SENT_AT_ONCE = 16 * 2**10
"""Bytes that a server takes without waiting for the client; lifting a timeout costs 3 µs, a twentieth of a request."""
BROKEN = "The engine stopped in the middle of the answer."


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer for a caller within the platform: the response body as JSON, what gave it, and the tokens it used."""

    body: dict[str, Any]
    target: Target
    used: Used = field(default_factory=Used)


class Forwarder:
    """Forwards to the engines of `pool`."""

    def __init__(self, pool: EnginePool, limits: Limits, metrics: Metrics) -> None:
        self._pool, self._limits, self._metrics = pool, limits, metrics

    async def forward(
        self, request: Admitted, target: Target, first_byte_timeout: asyncio.Timeout, send: Send
    ) -> Answer:
        """Have `target` answer; `first_byte_timeout` is lifted when the answer begins.

        Raises `RequestError` and `EngineUnavailable` where no answer began.
        """
        out, usage_asked = request.protocol.for_engine(request.body, target, self._limits)
        body, tried = requests.to_bytes(out), list[Engine]()
        while True:
            upstream = Upstream(self._pool, target, request.protocol.path, body, tried)
            try:
                return await self._forward_by(
                    upstream, request, target, out, not usage_asked, first_byte_timeout, send
                )
            except EngineLost:  # nothing has reached the client
                continue

    async def _forward_by(
        self,
        upstream: Upstream,
        request: Admitted,
        target: Target,
        out: Mapping[str, Any],
        drop_usage: bool,
        first_byte_timeout: asyncio.Timeout,
        send: Send,
    ) -> Answer:
        """Have one replica answer. Raises `EngineLost` where it ended before its answer began."""
        async with upstream as (engine, response):
            if out.get("stream"):
                marks = request.protocol.marks
                rewriter = StreamRewriter(target.engine_model, target.release, drop_usage, marks)
                return await self._stream(
                    request, target, out, rewriter, engine, response, first_byte_timeout, send
                )
            data = await self._read_whole(target, response)
            if len(data) > SENT_AT_ONCE:
                first_byte_timeout.reschedule(None)
            engine.last_sign_of_life = time.monotonic()
            failure: BaseException | None = None
            try:
                await send(responses.start(200, target, request.conversation, b"application/json", len(data)))
                await send({"type": "http.response.body", "body": data})
            except BaseException as error:
                failure = error
            usage = responses.usage(data)
            return Answer(
                200 if failure is None else 500,
                target,
                read_usage(usage) if usage is not None else request.protocol.used_by_whole(out, data),
                usage,
                chunks=(data,) if request.recording else (),
                failure=failure,
            )

    async def _stream(
        self,
        request: Admitted,
        target: Target,
        out: Mapping[str, Any],
        rewriter: StreamRewriter,
        engine: Engine,
        response: Connection,
        first_byte_timeout: asyncio.Timeout,
        send: Send,
    ) -> Answer:
        chunks: list[bytes] | None = [] if request.recording else None
        times: list[float] = []
        status, error, protocol, held = 200, None, request.protocol, b""
        first_token_s: float | None = None
        failure: BaseException | None = None
        try:
            try:
                async for chunk in response.chunks():
                    data = rewriter.feed(chunk)
                    if not data:
                        continue
                    if first_token_s is None:
                        if held:
                            data = held + data
                        failed = protocol.error_start in data
                        if failed and not await engine.is_healthy():
                            raise StreamBroken("the engine has ended")
                        if not (failed or rewriter.has_begun) and len(data) < SENT_AT_ONCE:
                            held = data  # no token yet: should the engine end, another may still answer
                            continue
                        first_token_s = time.perf_counter() - request.started
                        first_byte_timeout.reschedule(None)
                        self._metrics.series(target).first_token.observe(first_token_s)
                        await send(responses.start(200, target, request.conversation, EVENTS, None))
                    engine.last_sign_of_life = now = time.monotonic()
                    if chunks is not None:
                        chunks.append(data)
                        times.append(now)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                if first_token_s is None:  # an answer without a token
                    first_token_s = time.perf_counter() - request.started
                    await send(responses.start(200, target, request.conversation, EVENTS, None))
                    await send(responses.more(held))
                    if chunks is not None:
                        chunks.append(held)
            except StreamBroken:
                if first_token_s is None:
                    why = "the engine stopped before its answer began"
                    raise EngineLost(target.base, why, RESTART_S) from None
                status, error = 502, BROKEN
                self._metrics.series(target).broken.inc()
                await send(
                    responses.more(rewriter.finish() + protocol.error_event(BROKEN, "stream_broken", 502))
                )
            await send({"type": "http.response.body", "body": b""})
        except BaseException as ended:  # such as the client's leaving: what went out is counted and kept
            if first_token_s is None:
                raise
            status, failure = 500, ended
        used = usage = None
        if first_token_s is not None:
            usage = responses.usage(rewriter.usage_event or b"")
            guessed = usage is None
            used = protocol.used_by_stream(out, rewriter.events) if guessed else read_usage(usage or {})
        return Answer(status, target, used, usage, first_token_s, chunks or (), times, error, failure=failure)

    async def _read_whole(self, target: Target, response: Connection) -> bytes:
        """Read an answer in one piece, under the release's public name."""
        try:
            data = await whole(response)
        except StreamBroken as error:
            why = "the engine stopped in the middle of the answer"
            raise EngineLost(target.base, why, RESTART_S) from error
        return data.replace(model_field(target.engine_model), model_field(target.release), 1)

    async def post(self, target: Target, path: str, body: bytes) -> bytes:
        """Have `target` answer a request to the engine whole. Raises `RequestError`, `EngineUnavailable`."""
        tried = list[Engine]()
        while True:
            with contextlib.suppress(EngineLost):
                async with Upstream(self._pool, target, path, body, tried) as (_engine, response):
                    return await self._read_whole(target, response)

    async def ask(self, target: Target, body: Mapping[str, Any]) -> Completion:
        """Have `target` answer a checked chat request whole. Raises `RequestError`, `EngineUnavailable`.

        Counts nothing; it is for the caller to do.
        """
        given = {**body, "stream": False}
        given.pop("stream_options", None)
        out, _ = requests.for_engine(given, target, self._limits)
        data = await self.post(target, CHAT, requests.to_bytes(out))
        answer = {**orjson.loads(data), "model": target.release}
        usage = answer.get("usage")
        return Completion(answer, target, read_usage(usage) if usage else token_estimate.of_whole(out, data))


def read_usage(usage: Mapping[str, Any]) -> Used:
    """Read the tokens of an answer's `usage`, in either spelling."""
    given = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
    return Used(given, usage.get("completion_tokens") or usage.get("output_tokens") or 0)
