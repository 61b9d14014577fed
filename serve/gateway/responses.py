"""The parts of HTTP that the gateway speaks: reading a body, beginning an answer, OpenAI's error form.

Knows ASGI and targets; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive

from serve.error_status import retry_after, status_of
from serve.errors import RequestError
from serve.gateway.content_encoding import decompress, too_large
from serve.router import RoutingTable, Target
from store.rollout import chat_template_kwargs

MAX_HEADER_CHARS = 200
OWNER = "trimtab"
"""`owned_by` of every model: the platform, never a person."""
_JSON = json.JSONDecoder()


def error_response(error: BaseException) -> Response:
    """Return an error in OpenAI's form, with `accepted` beside it where the field has a list of values.

    An error that is not known (`serve.error_status`) is answered with 500 and without its text.
    """
    if not isinstance(error, RequestError):
        error = as_request_error(error)
    kind = "server_error" if error.status >= 500 else error.kind
    body: dict[str, Any] = {
        "message": error.message, "type": kind, "param": error.param, "code": error.code,
    }  # fmt: skip
    if error.accepted is not None:
        body["accepted"] = error.accepted
    return json_response({"error": body}, error.status, error.headers)


def as_request_error(error: BaseException) -> RequestError:
    """Return the error of a request that a failure behind the gateway becomes."""
    known = status_of(error)
    if known is None:
        return RequestError(
            "An error of the platform's own; its log says more.", status=500, code="internal_error"
        )
    return RequestError(
        f"{error}.".replace("..", "."),
        known.field,
        status=known.status,
        code=known.code,
        headers=retry_after(error, known),
    )


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    try:
        data = orjson.dumps(value)
    except orjson.JSONEncodeError:  # a message repeats a lone surrogate
        data = json.dumps(value).encode()
    return Response(data, status, headers, "application/json")


def cards(table: RoutingTable) -> list[dict[str, Any]]:
    """Return the cards of the names to offer: deployments first, then releases and base models."""
    return [card for name in table.names() if (card := card_of(table, name))]


def card_of(table: RoutingTable, name: str) -> dict[str, Any] | None:
    """Return the model card of `GET /v1/models/NAME`, None for a name that nothing has."""
    extra: dict[str, Any]
    if route := table.routes.get(name):
        extra = {"kind": "deployment", "release": route.stable.release}
        extra |= _made_of(route.stable)
        if route.canary:
            extra["canary"] = route.canary.release
    elif target := table.pinned.get(name):
        extra = {"kind": "release", "deployment": target.deployment, "state": table.state(target)}
        extra |= _made_of(target)
    elif name in table.bases:
        extra = {"kind": "base", "base": name}
    else:
        return None
    return {"id": name, "object": "model", "created": table.created(name), "owned_by": OWNER, **extra}


def _made_of(target: Target) -> dict[str, Any]:
    facts: dict[str, Any] = {"base": target.base, "adapter": target.adapter}
    fixed = chat_template_kwargs.fixed_by(target.sampling)
    return facts | ({chat_template_kwargs.KEY: fixed} if fixed else {})


def start(status: int, target: Target, conversation: str, content_type: bytes, length: int | None) -> Message:
    """Return the message that begins an answer; `length` None begins a stream."""
    headers = [
        (b"content-type", content_type),
        (b"x-trimtab-release", target.release.encode()),
        (b"x-trimtab-lane", target.lane.encode()),
        (b"x-trimtab-conversation", conversation.encode()),
    ]
    if length is None:
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    else:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}


def more(data: bytes) -> Message:
    """Return the message of a piece with more to come."""
    return {"type": "http.response.body", "body": data, "more_body": True}


def header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Return a header as text, None without one; raises `RequestError` for one that is odd or long."""
    value = headers.get(name)
    if not value:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    if len(text) > MAX_HEADER_CHARS or not text.isprintable():
        raise RequestError(
            f"The header {name.decode()} must be printable and at most {MAX_HEADER_CHARS} characters.",
            name.decode(),
        )
    return text


def usage(data: bytes) -> Mapping[str, Any] | None:
    """Read the usage from where it stands in an answer, without parsing the answer."""
    at = data.rfind(b'"usage":{')
    if at < 0:
        return None
    begin = at + len(b'"usage":')
    try:
        value = orjson.loads(data[begin : data.index(b"}", begin) + 1])
    except ValueError:  # it holds objects of its own
        try:
            value, _ = _JSON.raw_decode(data[begin:].decode())
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


async def read(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """Read a request body, decompressed; raises `RequestError` (413) as soon as it is larger than `limit` bytes."""
    declared = headers.get(b"content-length", b"")
    size = int(declared) if declared.isdigit() else 0
    parts: list[bytes] = []
    while size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The request ended before its body did.", status=499, code="client_left")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            encoding = headers.get(b"content-encoding")
            return body if encoding is None else decompress(body, encoding.decode("latin-1"), limit)
        size = sum(map(len, parts))
    raise too_large(limit)
