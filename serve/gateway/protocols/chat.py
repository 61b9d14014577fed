"""`POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from typing_extensions import override

from common.tool_calls import ToolCalls
from serve.gateway import requests
from serve.gateway.answers import ParsedAnswer, objects
from serve.gateway.openai_paths import CHAT
from serve.gateway.protocols.protocol import Body, Protocol
from serve.gateway.stream_rewriter import CHOICES, Marks
from serve.metering import token_estimate
from serve.metering.limits import Limits
from serve.metering.usage_counter import Used
from serve.router import Target


class Chat(Protocol):
    """OpenAI's chat completions."""

    path: ClassVar[str] = CHAT
    marks: ClassVar[Marks] = CHOICES
    error_start: ClassVar[bytes] = b'data: {"error"'

    @override
    def check(self, body: Body, limits: Limits) -> None:
        requests.check_chat(body, limits)

    @override
    def conversation(self, body: Body) -> Sequence[Mapping[str, Any]] | None:
        messages: Sequence[Mapping[str, Any]] = body["messages"]
        if tools := body.get("tools"):  # kept with the first message, see `store.carried`
            return [{**messages[0], "tools": tools}, *messages[1:]]
        return messages

    @override
    def for_engine(self, body: Body, target: Target, limits: Limits) -> tuple[dict[str, Any], bool]:
        return requests.for_engine(body, target, limits)

    @override
    def as_chat(self, body: Body) -> Body:
        return body

    @override
    def used_by_stream(self, body: Body, events: int) -> Used:
        return token_estimate.of_stream(body, events)

    @override
    def used_by_whole(self, body: Body, answer: bytes) -> Used:
        return token_estimate.of_whole(body, answer)

    @override
    def read_answer(self, data: bytes, stream: bool) -> ParsedAnswer:
        ident: str | None = None
        finish: str | None = None
        usage: Mapping[str, Any] = {}
        parts: list[str] = []
        reasoning: list[str] = []
        calls = ToolCalls()
        seen = False
        for value in objects(data, stream):
            ident = ident or value.get("id")
            usage = value.get("usage") or usage
            for choice in value.get("choices") or ():
                if choice.get("index", 0) != 0:
                    continue
                message = choice.get("delta") if stream else choice.get("message")
                if message:
                    if message.get("content") is not None:
                        seen = True
                        parts.append(message["content"])
                    reasoning.append(message.get("reasoning") or message.get("reasoning_content") or "")
                    calls.add(message.get("tool_calls") or ())
                finish = choice.get("finish_reason") or finish
        carried = {"tool_calls": calls.whole(), "reasoning_content": "".join(reasoning)}
        return ParsedAnswer(ident, "".join(parts) if seen else None, finish, usage, carried)
