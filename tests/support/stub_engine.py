"""A stand-in for vLLM's server that ends as it is told to, for faults that a real engine cannot be made to have.

The text asked for is what it does: `say 3` streams three words and reports usage, `hold 3` streams three and then
nothing more, `break 3` closes the connection after three, `wait` never begins, `refuse` is answered with 400. `prelude`
(of `/v1/responses` and `/v1/messages`, which only stream here) closes it after the event that comes before any token.

`app.state.fault` has it end as vLLM does when its engine core is killed, at whatever is asked: `error` answers 500, or
streams the error as its first event; `silence` closes the connection before the first event. With either /health is 503.
`bug` fails in the way of `error` while /health stays 200.

`app.state.asked` has the body of each request for an answer, from when it has arrived.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "stub"
USAGE = {"prompt_tokens": 90, "completion_tokens": 70, "total_tokens": 160}


def app() -> Starlette:
    """Return it as an ASGI app."""
    made = Starlette(
        routes=[
            Route("/health", _health),
            Route("/v1/models", _models),
            Route("/v1/chat/completions", _answer, methods=["POST"]),
            Route("/v1/completions", _answer, methods=["POST"]),
            Route("/v1/responses", _responses, methods=["POST"]),
            Route("/v1/messages", _messages, methods=["POST"]),
            Route("/tokenize", _tokenize, methods=["POST"]),
            Route("/detokenize", _tokenize, methods=["POST"]),
        ]
    )
    made.state.fault = None
    made.state.asked = []
    return made


async def _health(request: Request) -> Response:
    return JSONResponse({}, 503 if request.app.state.fault in ("error", "silence") else 200)


async def _models(request: Request) -> Response:
    return JSONResponse(
        {"object": "list", "data": [{"id": MODEL, "object": "model", "root": MODEL, "parent": None}]}
    )


async def _answer(request: Request) -> Response:
    if fault := request.app.state.fault:
        return _fail(fault, bool((await request.json()).get("stream")))
    try:
        body = await request.json()
        request.app.state.asked.append(body)
        return _reply(body)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        return JSONResponse({"error": {"message": f"not accepted: {error!r}", "param": None}}, 400)


def _fail(fault: str, stream: bool) -> Response:
    error = {
        "error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}
    }
    if fault == "silence":
        return StreamingResponse(_break_off(), media_type="text/event-stream")
    if stream:
        return Response(b"data: " + _dump(error) + b"\n\ndata: [DONE]\n\n", media_type="text/event-stream")
    return JSONResponse(error, 500)


async def _break_off() -> AsyncIterator[bytes]:
    yield b""
    raise ConnectionError("the engine core was killed")


def _reply(body: dict[str, Any]) -> Response:
    chat = "messages" in body
    text = body["messages"][-1]["content"] if chat else body["prompt"]
    verb, _, number = str(text).partition(" ")
    words = int(number) if number.isdecimal() else 0
    if verb == "refuse":
        return JSONResponse({"error": {"message": "no", "param": None}}, 400)
    if body.get("stream"):
        return StreamingResponse(
            _events(chat, verb, words, body.get("n") or 1), media_type="text/event-stream"
        )
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if chat:
        choice["message"] = {"role": "assistant", "content": "word " * words}
    else:
        choice |= {"text": "x", "logprobs": {"token_logprobs": [-0.1]}}
    value = {"id": _new_id(), "model": MODEL, "choices": [choice], "usage": USAGE}
    return Response(_dump(value), media_type="application/json")


async def _events(chat: bool, verb: str, words: int, choices: int) -> AsyncIterator[bytes]:
    ident = _new_id()
    if verb == "wait":
        await asyncio.Event().wait()
    for index in range(choices if chat else 0):
        yield _event(ident, [_choice(index, chat, {"role": "assistant", "content": ""})])
    for n in range(words):
        yield _event(ident, [_choice(n % choices, chat, {"content": "word "})])
    if verb == "hold":
        await asyncio.Event().wait()
    if verb == "break":
        raise ConnectionError("as it was told")
    yield _event(ident, [_choice(0, chat, {}, "stop")])
    yield _event(ident, [], usage=USAGE)
    yield b"data: [DONE]\n\n"


async def _tokenize(request: Request) -> Response:
    """Answer with a token per word, or with the words of tokens; `token_strs` has what was asked."""
    if request.app.state.fault:
        return _fail(request.app.state.fault, False)
    body = await request.json()
    if "tokens" in body:
        return JSONResponse({"prompt": "word " * len(body["tokens"])})
    text = body.get("prompt") or " ".join(message["content"] for message in body["messages"])
    asked = [json.dumps(body)] if body.get("return_token_strs") else None
    tokens = list(range(len(text.split())))
    return JSONResponse({"count": len(tokens), "max_model_len": 4096, "tokens": tokens, "token_strs": asked})


async def _responses(request: Request) -> Response:
    body = await request.json()
    ident, given = _new_id(), body["input"]
    text = given if isinstance(given, str) else given[-1]["content"]
    response = {"id": ident, "model": MODEL, "output": [], "usage": None}
    usage = {"input_tokens": 90, "output_tokens": 70, "total_tokens": 160}
    ended = {**response, "status": "completed", "usage": usage}
    return _named_events(
        request,
        text,
        {"type": "response.created", "response": response},
        {"type": "response.output_text.delta", "delta": "word "},
        [{"type": "response.completed", "response": ended}],
    )


async def _messages(request: Request) -> Response:
    body = await request.json()
    usage = {"input_tokens": 90, "output_tokens": 0}
    message = {"id": _new_id(), "type": "message", "model": MODEL, "content": [], "usage": usage}
    delta = {"type": "text_delta", "text": "word "}
    ended = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {**usage, "output_tokens": 70},
    }
    return _named_events(
        request,
        body["messages"][-1]["content"],
        {"type": "message_start", "message": message},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        [ended, {"type": "message_stop"}],
    )


def _named_events(
    request: Request, text: str, prelude: dict[str, Any], delta: dict[str, Any], end: list[dict[str, Any]]
) -> Response:
    verb, _, number = text.partition(" ")

    async def events() -> AsyncIterator[bytes]:
        yield _named(prelude)
        if verb == "prelude" or request.app.state.fault:
            raise ConnectionError("as it was told")
        for _ in range(int(number or 0)):
            yield _named(delta)
        if verb == "break":
            raise ConnectionError("as it was told")
        for value in end:
            yield _named(value)

    return StreamingResponse(events(), media_type="text/event-stream")


def _named(value: dict[str, Any]) -> bytes:
    return b"event: " + value["type"].encode() + b"\ndata: " + _dump(value) + b"\n\n"


def _choice(index: int, chat: bool, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    said = {"delta": delta} if chat else {"text": delta.get("content", "")}
    return {"index": index, **said, "logprobs": None, "finish_reason": finish}


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _event(ident: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + _dump({"id": ident, "model": MODEL, "choices": choices, **more}) + b"\n\n"


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
