"""The OpenAI-compatible gateway: admits a request, has a release answer it, accounts for it.

    POST /v1/chat/completions   POST /v1/responses   POST /v1/messages   POST /v1/completions   GET /v1/models[/NAME]
    POST /tokenize   POST /detokenize

The hot path parses the request once and the answer never: a stream goes through as the engine's own bytes. Written as
plain ASGI, since one object per request and one per chunk would cost more than the rest. Made by `serve.build`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth import Principal, require
from serve.errors import EngineUnavailable, RequestError
from serve.gateway import requests, responses
from serve.gateway.admission import Admission, Admitted, holders
from serve.gateway.canary_monitor import CanaryMonitor
from serve.gateway.exchange import Answer, Exchange
from serve.gateway.forwarder import Completion, Forwarder
from serve.gateway.metrics import Metrics
from serve.gateway.model_routes import model_routes
from serve.gateway.protocols import CHAT, PROTOCOLS
from serve.gateway.protocols.protocol import Protocol
from serve.gateway.recorder import Recorder
from serve.gateway.shadow import Shadow
from serve.gateway.tokenize import tokenize_routes
from serve.metering.rate_limiter import RateLimiter
from serve.router import Router, RoutingTable, Target

log = logging.getLogger(__name__)
CLOSE_S = 10.0
STOPPED = "The platform stopped in the middle of the answer."


class Gateway:
    """Answers `/v1`. `shadow` gets what the stable release answered, where there is one."""

    def __init__(
        self,
        admission: Admission,
        forwarder: Forwarder,
        router: Router,
        rate_limiter: RateLimiter,
        recorder: Recorder,
        metrics: Metrics,
        canaries: CanaryMonitor,
        shadow: Shadow | None = None,
    ) -> None:
        self._admission, self._forwarder, self._router = admission, forwarder, router
        self._recorder, self._metrics, self._shadow = recorder, metrics, shadow
        self.rate_limiter, self.canaries = rate_limiter, canaries
        self._limits = rate_limiter.limits

    @property
    def table(self) -> RoutingTable:
        """The routing table of this moment."""
        return self._router.table

    def routes(self) -> list[BaseRoute]:
        """Return the routes of `/v1` but those of `HotPath`."""
        tokens = tokenize_routes(self._admission, self._router, self._forwarder, self._limits)
        return [*tokens, *model_routes(self._admission, self._router)]

    async def aclose(self) -> None:
        """Wait up to `CLOSE_S` seconds for the requests under way."""
        end = time.monotonic() + CLOSE_S
        while self.rate_limiter.outstanding and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def complete(self, principal: Principal, body: Mapping[str, Any], sticky: str) -> Completion:
        """Answer a chat request from within the platform; nothing is recorded and nothing streams.

        Raises `RequestError` and `EngineUnavailable` as the HTTP route would answer.
        """
        require(principal, "chat")
        started = time.perf_counter()
        given = dict(body)
        requests.check_chat(given, self._limits)
        target = self._router.table.resolve(requests.model_of(given), sticky)
        request = Admitted(CHAT, given, target, holders(principal, principal.user), "", started, None)
        self.rate_limiter.enter(request.holders)
        answer = None
        try:
            done = await self._forwarder.ask(target, given)
            answer = Answer(200, target, done.used)
            return done
        except (RequestError, EngineUnavailable) as error:
            answer = Answer(responses.error_response(error).status_code, target)
            raise
        finally:
            self.account(request, answer or Answer(500, target))

    async def handle(self, protocol: Protocol, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request over ASGI: admit, answer, account."""
        started = time.perf_counter()
        try:
            request = await self._admission.admit(protocol, scope, receive, started)
            self.rate_limiter.enter(request.holders)
        except Exception as error:
            if not isinstance(error, RequestError | EngineUnavailable):
                log.exception("a request to %s failed before it was routed", protocol.path)
            response = protocol.error_response(error)
            self._metrics.refused.labels(str(response.status_code)).inc()
            await response(scope, receive, send)
            return
        answer = None
        try:
            answer = await self.answer(request, scope, receive, send)
        finally:
            self.account(request, answer or Answer(500, request.target))
        if answer.failure is not None:
            raise answer.failure

    async def answer(self, request: Admitted, scope: Scope, receive: Receive, send: Send) -> Answer:
        """Have a release answer, and return how it ended; a canary that fails falls back to the stable release.

        Status 499: the client left. Raises only where the server or the platform ends the request before it began.
        """
        listener = _DisconnectListener(receive)
        target = request.target
        try:
            answer = None
            if target.lane == "canary" and (route := self._router.table.routes.get(target.deployment or "")):
                answer = await self._answer_by_canary(request, send)
                target = target if answer else route.stable
            if answer is None:
                answer = await self._answer_by(request, target, send)
            return listener.judge(answer)
        except asyncio.CancelledError:
            if not listener.ended_the_task():
                raise
            return Answer(499, target, stopped=True)
        except Exception as error:
            if not isinstance(error, RequestError | EngineUnavailable):
                log.exception("a request to %s failed", request.protocol.path)
            response = request.protocol.error_response(error)
            await response(scope, receive, send)
            return Answer(response.status_code, target)
        finally:
            listener.close()

    async def _answer_by_canary(self, request: Admitted, send: Send) -> Answer | None:
        """Have the canary answer; returns None where it fails before its answer begins."""
        canary = request.target
        # an answer that is not streamed shows no first token
        limit = (
            self.canaries.policy.first_token_s
            if request.body.get("stream")
            else self._limits.first_byte_timeout_s
        )
        try:
            async with asyncio.timeout(limit) as first_byte_timeout:
                answer = await self._forwarder.forward(request, canary, first_byte_timeout, send)
        except (RequestError, EngineUnavailable, TimeoutError) as error:
            client_error = isinstance(error, RequestError) and error.status < 500
            self.canaries.note(canary, ok=client_error)
            if client_error:
                raise
            return None
        self._note(answer)
        return answer

    async def _answer_by(self, request: Admitted, target: Target, send: Send) -> Answer:
        """Have `target` answer; raises `RequestError` (504) when no answer begins within `first_byte_timeout_s`."""
        limit = self._limits.first_byte_timeout_s
        try:
            async with asyncio.timeout(limit) as first_byte_timeout:
                answer = await self._forwarder.forward(request, target, first_byte_timeout, send)
        except TimeoutError as error:
            self.canaries.note(target, ok=False)
            message = f"No answer began within {limit:g} s; the generation was stopped."
            raise RequestError(message, status=504, code="engine_timeout") from error
        except (RequestError, EngineUnavailable) as error:
            self.canaries.note(target, ok=isinstance(error, RequestError) and error.status < 500)
            raise
        self._note(answer)
        return answer

    def _note(self, answer: Answer) -> None:
        """Note how an answer that began ended: canaries are compared with stable. One cut short says nothing."""
        if answer.failure is None:
            self.canaries.note(answer.target, ok=answer.status < 500)

    def account(self, request: Admitted, answer: Answer) -> None:
        """Count an admitted request once: against its holders' budgets, in the series, and for the record.

        Holds for every request of a principal, over HTTP or from within. Copies for a shadow are the platform's own
        and are counted for nobody.
        """
        self.rate_limiter.leave(request.holders, answer.used)
        seconds = time.perf_counter() - request.started
        series = self._metrics.series(answer.target)
        series.answered(answer.status)
        if answer.status == 499:
            series.stopped.inc()
        series.seconds.observe(seconds)
        used = answer.used
        if used is not None:
            series.prompt_tokens.inc(used.prompt_tokens)
            series.completion_tokens.inc(used.completion_tokens)
            if answer.usage is not None and used.completion_tokens > 1 and answer.first_token_s is not None:
                series.inter_token.observe((seconds - answer.first_token_s) / (used.completion_tokens - 1))
        if request.recording is not None and answer.chunks:
            exchange = Exchange(request.recording, answer, seconds)
            self._recorder.put(exchange)
            if self._shadow is not None and answer.status == 200:
                self._shadow.offer(answer.target, request.protocol.as_chat(request.body), exchange)


class _DisconnectListener:
    """Cancels the current task when its client leaves. Made in that task; `close` ends it."""

    __slots__ = ("_disconnected", "_listening", "_task")

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._disconnected = False
        self._listening = asyncio.create_task(self._listen(receive))

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        self._task.cancel()

    def ended_the_task(self) -> bool:
        """Return whether the cancellation that was caught is the client's leaving and nothing else; takes it back."""
        return self._disconnected and not self._task.uncancel()

    def judge(self, answer: Answer) -> Answer:
        """Return an answer that was cut short as what it is: left by its client, or stopped by the platform."""
        if not isinstance(answer.failure, asyncio.CancelledError):
            return answer
        if self.ended_the_task():
            return replace(answer, status=499, stopped=True, failure=None)
        return replace(answer, error=STOPPED)

    def close(self) -> None:
        """Stop listening; what waits in `receive` ends by itself, so nobody waits for it."""
        self._listening.cancel()


class HotPath:
    """ASGI middleware that answers the paths of `PROTOCOLS` ahead of the app's routing.

    The platform's app has some seventy other routes, which it would try one after the other.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        protocol = PROTOCOLS.get(scope["path"]) if scope["type"] == "http" else None
        if protocol is not None:
            await self._gateway.handle(protocol, scope, receive, send)
        else:
            await self._app(scope, receive, send)
