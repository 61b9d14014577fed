"""The OpenAI-compatible gateway: who asks, which release answers, and the bytes in between.

    POST /v1/chat/completions   POST /v1/completions   GET /v1/models[/NAME]

The hot path parses the request once and the answer never: a stream goes through as the engine's own bytes. Written
as plain ASGI, since a request object and a response object a chunk would cost more than the rest. Knows no Gradio,
no training and, but for the recorder, no store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth import FORWARDED, Authenticator, Principal, require
from serve.engine.pool import EnginePool
from serve.engine.stream_client import Connection, StreamBroken
from serve.errors import EngineUnavailable, Forbidden, RequestError, UnknownModel
from serve.gateway import client_headers, requests, responses
from serve.gateway.canary_monitor import CanaryMonitor
from serve.gateway.metrics import Metrics
from serve.gateway.openai_paths import WITHOUT_PREFIX, not_found
from serve.gateway.recorder import Exchange, Recorder
from serve.gateway.shadow import Shadow
from serve.gateway.stream_rewriter import StreamRewriter, error_event, model_field
from serve.gateway.upstream import Upstream, whole
from serve.metering import token_estimate
from serve.metering.limits import USER, Holder, Limits
from serve.metering.rate_limiter import RateLimiter
from serve.metering.usage_counter import UsageCounter, Used
from serve.router import Router, RoutingTable, Target, sticky_key
from store.ids import new_id

__all__ = ["Completion", "Gateway", "HotPath", "Limits"]

log = logging.getLogger(__name__)
EVENTS = b"text/event-stream; charset=utf-8"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
MODELS = "/v1/models"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer for a caller within the platform: the response body as JSON, and what gave it."""

    body: dict[str, Any]
    target: Target


@dataclass(slots=True)
class _Call:
    """One request, checked and routed."""

    path: str
    body: dict[str, Any]
    target: Target
    who: Sequence[Holder]
    conversation: str
    began: float
    exchange: Exchange | None
    used: Used | None = None
    first_token_s: float | None = None
    begun: bool = False
    patience: asyncio.Timeout | None = None


class Gateway:
    """Answers `/v1`. Constructed once; its routes belong into the platform's app."""

    def __init__(
        self,
        pool: EnginePool,
        router: Router,
        authenticator: Authenticator,
        recorder: Recorder,
        limits: Limits,
        metrics: Metrics,
        canaries: CanaryMonitor | None = None,
        counter: UsageCounter | None = None,
    ) -> None:
        self._pool, self._router, self._auth = pool, router, authenticator
        self._recorder, self._limits, self._metrics = recorder, limits, metrics
        self.canaries = canaries or CanaryMonitor()
        self.shadow: Shadow | None = None
        self.rate_limiter = RateLimiter(limits, counter=counter)
        metrics.watch(pool, recorder, self.rate_limiter)

    @property
    def table(self) -> RoutingTable:
        """The routing table of this moment."""
        return self._router.table

    def routes(self) -> list[BaseRoute]:
        """Return the routes of `/v1` but the two of `HotPath`."""
        return [
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
            Route("/v1", self._nothing, methods=METHODS),
            Route("/v1/{rest:path}", self._nothing, methods=METHODS),
            *[Route(path, self._nothing, methods=METHODS) for path in WITHOUT_PREFIX],
        ]

    async def aclose(self) -> None:
        """Wait up to ten seconds for the requests under way."""
        end = time.monotonic() + 10
        while self.rate_limiter.outstanding and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def complete(self, principal: Principal, body: Mapping[str, Any], sticky: str) -> Completion:
        """Answer a chat request from within the platform; nothing is recorded and nothing streams.

        Raises `RequestError` and `EngineUnavailable` as the HTTP route would answer.
        """
        require(principal, "chat")
        given = dict(body)
        requests.check_chat(given, self._limits)
        target = self._router.table.resolve(requests.model_of(given), sticky)
        payers = holders(principal, principal.user)
        self.rate_limiter.enter(payers)
        used = None
        try:
            done = Completion(await self.ask(target, given), target)
            used = _used(done.body.get("usage") or {})
            return done
        finally:
            self.rate_limiter.leave(payers, used)

    async def ask(self, target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have `target` answer a checked chat request whole; raises as `complete` does. Counts nothing."""
        given = {**body, "stream": False}
        given.pop("stream_options", None)
        out, _ = requests.for_engine(given, target, self._limits)
        try:
            async with Upstream(self._pool, target, CHAT, requests.to_bytes(out)) as (_engine, response):
                data = orjson.loads(await whole(response))
        except StreamBroken as error:
            raise EngineUnavailable(target.base, "the engine stopped in the middle of an answer") from error
        return {**data, "model": target.release}

    # ---- listings

    async def _models(self, request: Request) -> Response:
        try:
            await self._principal(request.scope, dict(request.scope["headers"]))
        except RequestError as error:
            return responses.error_response(error)
        return responses.json_response({"object": "list", "data": responses.cards(self._router.table)})

    async def _model(self, request: Request) -> Response:
        try:
            await self._principal(request.scope, dict(request.scope["headers"]))
            name = request.path_params["name"]
            card = responses.card_of(self._router.table, name)
            if card is None:
                raise UnknownModel(name, self._router.table.names())
            return responses.json_response(card)
        except RequestError as error:
            return responses.error_response(error)

    async def _nothing(self, request: Request) -> Response:
        path = request.url.path
        if path == MODELS or path.startswith(MODELS + "/"):
            return responses.error_response(wrong_method(path, "GET"))
        return responses.error_response(RequestError(not_found(path), status=404, code="not_found"))

    # ---- one request

    async def handle(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request over ASGI."""
        began = time.perf_counter()
        call: _Call | None = None
        try:
            call = await self._admit(path, scope, receive, began)
            self.rate_limiter.enter(call.who)
        except (RequestError, EngineUnavailable) as error:
            await self._refuse(error, scope, receive, send)
            return
        except Exception as error:
            log.exception("a request to %s failed before it was routed", path)
            await self._refuse(error, scope, receive, send)
            return
        status = 500
        try:
            status = await self._answer(call, scope, receive, send)
        finally:
            self.rate_limiter.leave(call.who, call.used)
            self._account(call, status)

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        answer = responses.error_response(error)
        self._metrics.refused.labels(str(answer.status_code)).inc()
        await answer(scope, receive, send)

    async def _admit(self, path: str, scope: Scope, receive: Receive, began: float) -> _Call:
        if scope["method"] != "POST":
            raise wrong_method(path, "POST")
        headers = dict(scope["headers"])
        principal = await self._principal(scope, headers)
        require(principal, "chat")
        body = requests.parse(await responses.read(receive, headers, self._limits.max_body_bytes))
        model = requests.model_of(body)
        (requests.check_chat if path == CHAT else requests.check_completion)(body, self._limits)
        said = client_headers.read(headers)
        user = person_of(principal, said.user)
        named = client_headers.named_user(body)
        sticky = sticky_key(said.conversation, named, user, principal.key_id, principal.name)
        target = self._router.table.resolve(model, sticky)
        conversation = said.conversation or new_id("conv")
        exchange = None
        if path == CHAT and said.store and principal.stores and body.get("store") is not False:
            source, task = client_headers.source_of(said, body)
            await self._recorder.room()
            exchange = Exchange(
                # what a program asks beside a conversation is not a part of it
                new_id("conv") if task else conversation,
                body["messages"],
                bool(body.get("stream")),
                model,
                target.deployment,
                target.release_id,
                target.lane,
                user,
                principal.key_id,
                source,
                task,
            )
        return _Call(path, body, target, holders(principal, user), conversation, began, exchange)

    async def _principal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
        found = {}
        if authorization := headers.get(b"authorization"):
            found["authorization"] = authorization.decode("latin-1")
        cookies = {}
        if cookie := headers.get(b"cookie"):
            cookies = cookie_parser(cookie.decode("latin-1"))
        principal = self._auth.recall(found, cookies)
        if principal is not None:
            return principal
        for name in FORWARDED:
            if (value := headers.get(name.encode())) is not None:
                found[name] = value.decode("latin-1")
        host = scope["client"][0] if scope.get("client") else ""
        return await asyncio.to_thread(self._auth.authenticate, found, cookies, host)

    async def _answer(self, call: _Call, scope: Scope, receive: Receive, send: Send) -> int:
        """Forward the call; returns the status it ended with (499: the client left)."""
        task = asyncio.current_task()
        assert task is not None
        left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            return await self._serve(call, send)
        except (RequestError, EngineUnavailable) as error:
            answer = responses.error_response(error)
            await answer(scope, receive, send)
            return answer.status_code
        except asyncio.CancelledError:
            if not left or task.uncancel():  # the platform stops
                if call.exchange and call.begun:
                    call.exchange.error = "The platform stopped in the middle of the answer."
                raise
            if call.exchange:
                call.exchange.stopped = True
            return 499
        except Exception as error:
            if call.begun:
                raise
            log.exception("a request to %s failed", call.path)
            answer = responses.error_response(error)
            await answer(scope, receive, send)
            return answer.status_code
        finally:
            watcher.cancel()  # where it waits it ends without another word, so nobody waits for it

    async def _serve(self, call: _Call, send: Send) -> int:
        """Forward the call; a canary that fails before its answer begins gives way to the stable release."""
        route = self._router.table.routes.get(call.target.deployment or "")
        if call.target.lane != "canary" or route is None:
            return await self._beside_canary(call, send)
        canary = call.target
        # an answer that is not streamed shows no first token
        limit = (
            self.canaries.policy.first_token_s
            if call.body.get("stream")
            else self._limits.first_byte_timeout_s
        )
        try:
            async with asyncio.timeout(limit) as call.patience:
                status = await self._forward(call, send)
        except (RequestError, EngineUnavailable, TimeoutError) as error:
            theirs = isinstance(error, RequestError) and error.status < 500
            self.canaries.note(canary, ok=theirs)
            if theirs or call.begun:
                raise
            call.target = route.stable
            if call.exchange:
                call.exchange.release, call.exchange.lane = route.stable.release_id, route.stable.lane
            return await self._beside_canary(call, send)
        self.canaries.note(canary, ok=status < 500)
        return status

    async def _beside_canary(self, call: _Call, send: Send) -> int:
        """Forward the call to what is no canary, and note how it ends: canaries are compared with it."""
        try:
            status = await self._patiently(call, send)
        except (RequestError, EngineUnavailable) as error:
            self.canaries.note(call.target, ok=isinstance(error, RequestError) and error.status < 500)
            raise
        self.canaries.note(call.target, ok=status < 500)
        return status

    async def _patiently(self, call: _Call, send: Send) -> int:
        """Forward the call; raises `RequestError` (504) when no answer begins within `first_byte_timeout_s`."""
        limit = self._limits.first_byte_timeout_s
        try:
            async with asyncio.timeout(limit) as call.patience:
                return await self._forward(call, send)
        except TimeoutError as error:
            message = f"No answer began within {limit:g} s; the generation was stopped."
            raise RequestError(message, status=504, code="engine_timeout") from error

    async def _forward(self, call: _Call, send: Send) -> int:
        target = call.target
        out, usage_asked = requests.for_engine(call.body, target, self._limits)
        async with Upstream(self._pool, target, call.path, requests.to_bytes(out)) as (engine, response):
            if not out.get("stream"):
                data = await self._whole(call, out, response)
                call.begun = True
                await send(responses.start(200, target, call.conversation, b"application/json", len(data)))
                await send({"type": "http.response.body", "body": data})
                engine.last_sign_of_life = time.monotonic()
                return 200
            rewriter = StreamRewriter(target.engine_model, target.release, drop_usage=not usage_asked)
            kept = call.exchange.chunks if call.exchange else None
            status = 200
            first = True
            try:
                async for chunk in response.chunks():
                    data = rewriter.feed(chunk)
                    if not data:
                        continue
                    if first:
                        first = False
                        self._first_token(call)
                        await send(responses.start(200, target, call.conversation, EVENTS, None))
                    engine.last_sign_of_life = time.monotonic()
                    if kept is not None:
                        kept.append(data)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            except StreamBroken:
                if first:
                    raise EngineUnavailable(
                        target.base, "the engine stopped before its answer began", 2
                    ) from None
                status = 502
                message = "The engine stopped in the middle of the answer."
                self._metrics.series(target).broken.inc()
                if call.exchange:
                    call.exchange.error = message
                await send(responses.more(rewriter.finish() + error_event(message, "stream_broken", 502)))
            finally:  # where the client has left, too
                if not first:
                    usage = responses.usage(rewriter.usage_event or b"")
                    self._count(call, usage, lambda: token_estimate.of_stream(out, rewriter.events))
            await send({"type": "http.response.body", "body": b""})
            return status

    async def _whole(self, call: _Call, out: Mapping[str, Any], response: Connection) -> bytes:
        try:
            data = await whole(response)
        except StreamBroken as error:
            why = "the engine stopped in the middle of the answer"
            raise EngineUnavailable(call.target.base, why, 2) from error
        data = data.replace(model_field(call.target.engine_model), model_field(call.target.release), 1)
        if call.exchange:
            call.exchange.chunks.append(data)
        self._count(call, responses.usage(data), lambda: token_estimate.of_whole(out, data))
        return data

    def _first_token(self, call: _Call) -> None:
        seconds = call.first_token_s = time.perf_counter() - call.began
        call.begun = True
        if call.patience is not None:
            call.patience.reschedule(None)
        self._metrics.series(call.target).first_token.observe(seconds)
        if call.exchange:
            call.exchange.first_token_s = seconds

    def _count(self, call: _Call, usage: Mapping[str, Any] | None, guess: Callable[[], Used]) -> None:
        """Count the usage that the engine reported, else a guess, of which the recorded turn says nothing."""
        used = call.used = guess() if usage is None else _used(usage)
        series = self._metrics.series(call.target)
        series.prompt_tokens.inc(used.prompt_tokens)
        series.completion_tokens.inc(used.completion_tokens)
        if usage is None:
            return
        if call.exchange:
            call.exchange.usage = usage
        if used.completion_tokens > 1 and call.first_token_s is not None:
            seconds = time.perf_counter() - call.began - call.first_token_s
            series.inter_token.observe(seconds / (used.completion_tokens - 1))

    def _account(self, call: _Call, status: int) -> None:
        seconds = time.perf_counter() - call.began
        series = self._metrics.series(call.target)
        series.answered(status)
        if status == 499:
            series.stopped.inc()
        series.seconds.observe(seconds)
        if call.exchange and call.exchange.chunks:
            call.exchange.seconds = seconds
            self._recorder.put(call.exchange)
            if self.shadow is not None and status == 200:
                self.shadow.offer(call.target, call.body, call.exchange)


def person_of(principal: Principal, named: str | None) -> str | None:
    """Return the person that a request is from: the one that `X-Trimtab-User` names, else the principal's.

    Raises `Forbidden` where the principal may not speak for others.
    """
    if named and not principal.may("ops"):
        raise Forbidden("X-Trimtab-User needs a key with the role ops.")
    return named or principal.user


def holders(principal: Principal, user: str | None) -> list[Holder]:
    """Return who pays for a request: the person, where one is known, and the key that was shown."""
    found = [Holder(USER + user, user)] if user else []
    if principal.key_id:
        found.append(Holder(principal.key_id, principal.key_name or principal.name))
    return found or [Holder(principal.name, principal.name)]


def wrong_method(path: str, accepted: str) -> RequestError:
    """Return the error of a method that a path does not take."""
    return RequestError(
        f"{path[:200]} takes {accepted}.", status=405, code="method_not_allowed", headers={"Allow": accepted}
    )


def _used(usage: Mapping[str, Any]) -> Used:
    """Read the tokens of an answer's `usage`."""
    return Used(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)


class HotPath:
    """ASGI middleware that answers chat completions and completions ahead of the app's routing.

    The platform's app has some seventy other routes, which it would try one after the other.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "http" and scope["path"] in (CHAT, COMPLETIONS):
            await self._gateway.handle(scope["path"], scope, receive, send)
        else:
            await self._app(scope, receive, send)
