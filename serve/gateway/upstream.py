"""One request on its way to an engine, with another replica tried where the first does not answer.

Nothing has reached the client at that point, so trying again is safe. Maps the engine's failures to the gateway's.
"""

from __future__ import annotations

import re

import orjson

from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.stream_client import Connection, StreamBroken
from serve.engine.vllm_api import error_message
from serve.errors import AdapterNotLoaded, EngineFailed, EngineUnavailable, RequestError
from serve.router import Target

ENGINE_FAILED = 502
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])")
TOOL_CHOICE = re.compile(r"\btool[_ ]choice\b")


RESTART_S = 5
"""After how many seconds to try again where an engine has ended; its restart takes longer."""


class EngineLost(EngineUnavailable):
    """An engine ended before its answer began: nothing has reached the client, so another replica may answer."""


class Upstream:
    """`async with Upstream(...) as (engine, response)`: a request at a replica, with its answer of status 200.

    Leaving the block early aborts the generation. Entering raises `EngineUnavailable` when no replica answers,
    `RequestError` with the engine's own status for a request that it refuses. Replicas in `tried` are not asked, and
    each that is asked is added. A class, since it is entered for each request:
    nested generators and exit stacks take more of the processor.
    """

    __slots__ = ("_adapter", "_body", "_engine", "_path", "_pool", "_response", "_target", "_tried")
    _engine: Engine
    _response: Connection

    def __init__(
        self, pool: EnginePool, target: Target, path: str, body: bytes, tried: list[Engine] | None = None
    ) -> None:
        self._pool, self._target, self._path, self._body = pool, target, path, body
        self._tried: list[Engine] = [] if tried is None else tried
        self._adapter = target.adapter

    async def __aenter__(self) -> tuple[Engine, Connection]:
        target, adapter, tried = self._target, self._adapter, self._tried
        failure: RequestError | None = None
        while True:
            engine = self._pool.pick(target.base, adapter, avoid=tried)
            if engine in tried:
                if failure is None or (failure.status == ENGINE_FAILED and not await tried[-1].is_healthy()):
                    raise EngineUnavailable(target.base, f"{engine.spec.name} does not answer", RESTART_S)
                raise failure
            tried.append(engine)
            try:
                await engine.in_flight.wait_until_open(adapter)
                failure = await self._ask(engine)
            except AdapterNotLoaded:
                failure = adapter_unavailable(target)
                continue
            except (EngineFailed, StreamBroken):
                continue
            if failure is None:
                if adapter:
                    engine.loaded.add(adapter)
                return engine, self._response
            if failure.status < 500:
                raise failure

    async def __aexit__(self, *_: object) -> None:
        self._engine.release(self._response)
        self._engine.in_flight.end(self._adapter)

    async def _ask(self, engine: Engine) -> RequestError | None:
        """Send the request to one replica and keep its answer; returns its refusal, with nothing kept."""
        engine.in_flight.begin(self._adapter)
        kept = False
        try:
            response = await engine.post(self._path, self._body)
            try:
                if response.status != 200:
                    return refusal(await whole(response), response.status, self._target)
                self._engine, self._response = engine, response
                kept = True
                return None
            finally:
                if not kept:
                    engine.release(response)
        finally:
            if not kept:
                engine.in_flight.end(self._adapter)


async def whole(response: Connection) -> bytes:
    """Read an answer to its end. Raises `StreamBroken`."""
    return b"".join([chunk async for chunk in response.chunks()])


def refusal(raw: bytes, status: int, target: Target) -> RequestError:
    """Return the error to answer with for an engine's refusal, free of the engine's names for models."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = raw.decode(errors="replace")
    message = name_settings(error_message(value, status).replace(target.engine_model, target.model))
    error = value.get("error") if isinstance(value, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if param is None and TOOL_CHOICE.search(message):
        param = "tool_choice"
    if status == 404:
        # The public name is known, so this is the adapter: its files are gone or it cannot be loaded.
        return adapter_unavailable(target)
    if status >= 500:
        return RequestError(f"The engine failed: {message}", status=ENGINE_FAILED, code="engine_error")
    return RequestError(message, param, status=status, code="refused_by_engine")


def name_settings(message: str) -> str:
    """Return a refusal of vLLM that names where its command-line flags are set here."""
    if not FLAG.search(message):
        return message
    text = FLAG.sub(r"`\1`", message).rstrip(". ")
    return f"{text}. An operator sets it in [engines.NAME.args] of trimtab.toml."


def adapter_unavailable(target: Target) -> RequestError:
    """Return the error of a release whose adapter no engine has or can load."""
    return RequestError(
        f"{target.release} cannot be served: its adapter is not on the engine.",
        "model",
        status=503,
        code="adapter_unavailable",
        headers={"Retry-After": "5"},
    )
