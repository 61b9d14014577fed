"""`POST /v1/responses`: OpenAI's Responses API, which its Agents SDK and other frameworks use by default.

Stateless: the whole conversation is in `input`. The release's system prompt goes before it as an input item unless the
request has `instructions` or a system item; as `instructions` the engine would repeat it in its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from typing_extensions import override

from common.chat_messages import context_of, has_system, text_of
from serve.errors import RequestError
from serve.gateway import requests
from serve.gateway.answers import ParsedAnswer, objects
from serve.gateway.openai_paths import RESPONSES
from serve.gateway.protocols.protocol import Body, Protocol
from serve.gateway.stream_rewriter import Marks
from serve.metering.limits import Limits
from serve.router import Target
from store.rollout import chat_template_kwargs

STATELESS = {
    "previous_response_id": "responses are not kept; send the whole conversation in `input`",
    "conversation": "conversations are not kept under an id; send the whole of it in `input`",
    "background": "an answer is given at once; leave it out, and use `stream` for a long one",
    "prompt": "there are no stored prompts; a release has a system prompt",
}
"""Fields that need a state on the server, and what to do instead."""
_SAMPLING = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}


class OpenAIResponses(Protocol):
    """OpenAI's Responses API."""

    path: ClassVar[str] = RESPONSES
    marks: ClassVar[Marks] = Marks(usage=b'"usage":{"input_tokens"', token=b'.delta"')
    error_start: ClassVar[bytes] = b"event: error"

    @override
    def check(self, body: Body, limits: Limits) -> None:
        if "messages" in body:
            raise RequestError(
                "`messages` belongs to /v1/chat/completions; this path takes `input`.", "messages"
            )
        for name, why in STATELESS.items():
            if body.get(name):
                raise RequestError(f"`{name}` is not supported: {why}.", name)
        _check_input(body, limits)
        instructions = body.get("instructions")
        if instructions is not None and not isinstance(instructions, str):
            raise RequestError("`instructions` must be text.", "instructions")
        requests.check_types(body)
        requests.check_numbers(body, limits, ("max_output_tokens",))

    @override
    def conversation(self, body: Body) -> Sequence[Mapping[str, Any]]:
        return [*context_of(body.get("instructions")), *(_message(item) for item in _items(body))]

    @override
    def for_engine(self, body: Body, target: Target, limits: Limits) -> tuple[dict[str, Any], bool]:
        # nothing is stored by the engine; what the platform keeps is decided by the client's own `store`
        out = {**body, "model": target.engine_model, "store": False}
        for key, value in target.sampling.items():
            name = _SAMPLING.get(key, key)
            if out.get(name) is None:
                out[name] = value
            elif name == chat_template_kwargs.KEY:
                out[name] = {**value, **out[name]}
        if limits.max_tokens is not None and not out.get("max_output_tokens"):
            out["max_output_tokens"] = limits.max_tokens
        context = context_of(target.system_prompt)
        if context and not has_system(self.conversation(body)):
            out["input"] = [*context, *_items(body)]
        return out, True

    @override
    def read_answer(self, data: bytes, stream: bool) -> ParsedAnswer:
        ident: str | None = None
        deltas: list[str] = []
        whole: Mapping[str, Any] = {}
        for value in objects(data, stream):
            if not stream:
                whole = value
            elif value.get("type") == "response.output_text.delta":
                deltas.append(value.get("delta") or "")
            elif isinstance(value.get("response"), dict):
                whole = value["response"]
            ident = ident or whole.get("id")
        text = _output_text(whole)
        if text is None and deltas:  # it ended early
            text = "".join(deltas)
        return ParsedAnswer(ident, text, _finish(whole), whole.get("usage") or {})

    @override
    def error_event(self, message: str, code: str, status: int) -> bytes:
        error = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"


def _check_input(body: Body, limits: Limits) -> None:
    if isinstance(body.get("input"), str):
        return
    for item, where in requests.listed(body, "input", limits):
        if not isinstance(item, dict) or item.get("type", "message") == "message":
            requests.check_message(item, where)


def _items(body: Body) -> list[Mapping[str, Any]]:
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _message(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an input item as a chat message; one that is no message (a call, its result) has content of its type."""
    if item.get("type", "message") != "message":
        return {"role": "tool", "content": [item]}
    text = text_of(item.get("content"))
    return {"role": item["role"], "content": item.get("content") if text is None else text}


def _output_text(response: Mapping[str, Any]) -> str | None:
    texts = [
        part.get("text") or ""
        for item in response.get("output") or ()
        if item.get("type") == "message"
        for part in item.get("content") or ()
        if part.get("type") == "output_text"
    ]
    return "".join(texts) if texts else None


def _finish(response: Mapping[str, Any]) -> str | None:
    status = response.get("status")
    if status == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason") or "length"
        return _FINISH.get(reason, reason)
    return "stop" if status == "completed" else None
