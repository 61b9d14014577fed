"""What the gateway must know of a protocol to pass it through: its request, its stream, its answer, its errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.responses import Response

from serve.gateway import client_headers, responses
from serve.gateway.answers import ParsedAnswer
from serve.gateway.stream_rewriter import Marks, error_event
from serve.metering import token_estimate
from serve.metering.limits import Limits
from serve.metering.usage_counter import Used
from serve.router import Target

Body = Mapping[str, Any]


class Protocol(ABC):
    """One path of `/v1`. Stateless; the bodies that it gets are JSON objects with a `model`."""

    path: ClassVar[str]
    marks: ClassVar[Marks]
    """How to find usage and tokens in a stream without parsing it."""
    error_start: ClassVar[bytes]
    """How an event begins by which the engine reports its failure."""

    @abstractmethod
    def check(self, body: Body, limits: Limits) -> None:
        """Check what the gateway reads of a request; raises `RequestError` naming the field."""

    @abstractmethod
    def conversation(self, body: Body) -> Sequence[Mapping[str, Any]] | None:
        """Return a checked request's messages in the form of chat completions, None where it is no conversation."""

    @abstractmethod
    def for_engine(self, body: Body, target: Target, limits: Limits) -> tuple[dict[str, Any], bool]:
        """Return the body that the engine gets, and whether usage events in a stream are for the client."""

    @abstractmethod
    def read_answer(self, data: bytes, stream: bool) -> ParsedAnswer:
        """Read an answer from the bytes of a response; a stream may end anywhere."""

    def as_chat(self, body: Body) -> Body:
        """Return the chat completions request that asks the same, for a copy to another release."""
        asked = {name: body[name] for name in ("model", "temperature", "top_p", "user") if name in body}
        limit = body.get("max_output_tokens") or body.get("max_tokens")
        return {**asked, "messages": self.conversation(body), **({"max_tokens": limit} if limit else {})}

    def user(self, body: Body) -> str | None:
        """Return the body's name for the person, which only chooses the lane. Raises `RequestError`."""
        return client_headers.named_user(body)

    def used_by_stream(self, body: Body, events: int) -> Used:
        """Estimate what a stream used that ended early; `body` as the engine got it."""
        return Used(token_estimate.prompt_tokens({"messages": self.conversation(body) or ()}), events)

    def used_by_whole(self, body: Body, answer: bytes) -> Used:
        """Estimate what an answer in one piece used that reports no usage."""
        return token_estimate.of_whole({"messages": self.conversation(body) or ()}, answer)

    def error_response(self, error: BaseException) -> Response:
        """Return an error as this protocol's clients read it."""
        return responses.error_response(error)

    def error_event(self, message: str, code: str, status: int) -> bytes:
        """Return an event that ends a stream which broke."""
        return error_event(message, code, status)
