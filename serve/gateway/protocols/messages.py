"""`POST /v1/messages`: Anthropic's protocol, with its errors and its `x-api-key`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from starlette.responses import Response
from typing_extensions import override

from common.chat_messages import context_of, has_system, text_of
from serve.errors import RequestError
from serve.gateway import client_headers, requests, responses
from serve.gateway.answers import ParsedAnswer, objects
from serve.gateway.openai_paths import MESSAGES
from serve.gateway.protocols.protocol import Body, Protocol
from serve.gateway.stream_rewriter import Marks
from serve.metering.limits import Limits
from serve.router import Target
from store.rollout import chat_template_kwargs

ROLES = ("user", "assistant", "system")
_SAMPLING = {"max_tokens": "max_tokens", "stop": "stop_sequences"} | {
    name: name for name in ("temperature", "top_p", "top_k", chat_template_kwargs.KEY)
}
"""Sampling defaults of a release that the protocol has a field for; vLLM takes no others on this path."""
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicMessages(Protocol):
    """Anthropic's Messages API."""

    path: ClassVar[str] = MESSAGES
    marks: ClassVar[Marks] = Marks(usage=b'"type":"message_delta"', token=b'"type":"content_block_delta"')
    error_start: ClassVar[bytes] = b"event: error"

    @override
    def check(self, body: Body, limits: Limits) -> None:
        for message, where in requests.listed(body, "messages", limits):
            requests.check_message(message, where, ROLES)
        system = body.get("system")
        if system is not None and text_of(system) is None:
            raise RequestError("`system` must be text or a list of text blocks.", "system")
        if body.get("max_tokens") is None:
            raise RequestError("`max_tokens` is required: a whole number, 1 or more.", "max_tokens")
        requests.check_types(body)
        requests.check_numbers(body, limits, ("max_tokens",))
        self.user(body)

    @override
    def conversation(self, body: Body) -> Sequence[Mapping[str, Any]]:
        system = context_of(text_of(body.get("system")))
        return [*system, *({"role": m["role"], "content": m.get("content")} for m in body["messages"])]

    @override
    def for_engine(self, body: Body, target: Target, limits: Limits) -> tuple[dict[str, Any], bool]:
        out = {**body, "model": target.engine_model}
        out.pop("store", None)
        for key, value in target.sampling.items():
            name = _SAMPLING.get(key)
            if name and out.get(name) is None:
                out[name] = [value] if name == "stop_sequences" and isinstance(value, str) else value
            elif name == chat_template_kwargs.KEY:
                out[name] = {**value, **out[name]}
        if target.system_prompt and not has_system(self.conversation(body)):
            out["system"] = target.system_prompt
        return out, True

    @override
    def read_answer(self, data: bytes, stream: bool) -> ParsedAnswer:
        ident: str | None = None
        finish: str | None = None
        usage: Mapping[str, Any] = {}
        texts: list[str] = []
        for value in objects(data, stream):
            message = value.get("message") if stream else value
            if isinstance(message, dict):
                ident = ident or message.get("id")
                usage = message.get("usage") or usage
                blocks = message.get("content") or ()
                texts += [block.get("text") or "" for block in blocks if block.get("type") == "text"]
                finish = message.get("stop_reason") or finish
            if stream:
                delta = value.get("delta") or {}
                usage = value.get("usage") or usage
                finish = delta.get("stop_reason") or finish
                if delta.get("type") == "text_delta":
                    texts.append(delta.get("text") or "")
        text = "".join(texts) if texts else None
        return ParsedAnswer(ident, text, _FINISH.get(finish or "", finish), usage)

    @override
    def user(self, body: Body) -> str | None:
        metadata = body.get("metadata")
        if metadata is None:
            return None
        if not isinstance(metadata, dict):
            raise RequestError("`metadata` must be an object.", "metadata")
        return client_headers.named_user({"user": metadata.get("user_id")})

    @override
    def error_response(self, error: BaseException) -> Response:
        if not isinstance(error, RequestError):
            error = responses.as_request_error(error)
        return responses.json_response(_error(error.message, error.status), error.status, error.headers)

    @override
    def error_event(self, message: str, code: str, status: int) -> bytes:
        return b"event: error\ndata: " + orjson.dumps(_error(message, status)) + b"\n\n"


def _error(message: str, status: int) -> dict[str, Any]:
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
