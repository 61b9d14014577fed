"""One request on its way to an engine, with another replica tried where the first does not answer.

Nothing has reached the client at that point, so trying again is safe. Maps the engine's failures to the gateway's.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import orjson

from serve.engine import Engine, error_message
from serve.errors import AdapterNotLoaded, EngineFailed, EngineUnavailable, RequestError
from serve.http_stream import Connection, StreamBroken
from serve.pool import EnginePool
from serve.router import Target


@contextlib.asynccontextmanager
async def upstream(
    pool: EnginePool, target: Target, path: str, body: bytes
) -> AsyncIterator[tuple[Engine, Connection]]:
    """Send `body` to a replica of the target's base and yield the engine and its response with status 200.

    Leaving the block early aborts the generation. Raises `EngineUnavailable` when no replica answers,
    `RequestError` with the engine's own status for a request that it refuses.
    """
    tried: list[Engine] = []
    failure: RequestError | None = None
    while True:
        engine = pool.pick(target.base, target.adapter, avoid=tried)
        if engine in tried:
            raise failure or EngineUnavailable(target.base, f"{engine.spec.name} does not answer", 2)
        tried.append(engine)
        async with contextlib.AsyncExitStack() as stack:
            try:
                await engine.admitted(target.adapter)
                stack.enter_context(engine.lease(target.adapter))
                response = await stack.enter_async_context(engine.send(path, body))
                if response.status != 200:
                    failure = refusal(await whole(response), response.status, target)
                    if failure.status < 500:
                        raise failure
                    continue
            except AdapterNotLoaded:
                failure = adapter_unavailable(target)
                continue
            except (EngineFailed, StreamBroken):
                continue
            if target.adapter:
                engine.loaded.add(target.adapter)
            yield engine, response
            return


async def whole(response: Connection) -> bytes:
    """Read an answer to its end. Raises `StreamBroken`."""
    return b"".join([chunk async for chunk in response.chunks()])


def refusal(raw: bytes, status: int, target: Target) -> RequestError:
    """Return the error to answer with for an engine's refusal, free of the engine's names for models."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = raw.decode(errors="replace")
    message = error_message(value, status).replace(target.engine_model, target.model)
    error = value.get("error") if isinstance(value, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if status == 404:
        # The public name is known, so this is the adapter: its files are gone or it can not be loaded.
        return adapter_unavailable(target)
    if status >= 500:
        return RequestError(f"The engine failed: {message}", status=502, code="engine_error")
    return RequestError(message, param, status=status, code="refused_by_engine")


def adapter_unavailable(target: Target) -> RequestError:
    """Return the error of a release whose adapter no engine has or can load."""
    return RequestError(
        f"{target.release} can not be served: its adapter is not on the engine.",
        "model",
        status=503,
        code="adapter_unavailable",
        headers={"Retry-After": "5"},
    )
