"""One request with its answer, as the gateway hands it over for the store: values, and what an answer's bytes say."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from serve.gateway.answers import ParsedAnswer
from serve.gateway.protocols.protocol import Protocol
from serve.metering.usage_counter import Used
from serve.router import Target
from store.carried import read as read_carried
from store.conversations.turn import Turn
from store.errors import Invalid
from store.values import conversation as read_conversation


@dataclass(frozen=True, slots=True)
class Recording:
    """What is kept of a request, known before it is answered; `deployment` is None for a release or base model.

    `begun` is the text of an answer that the request continues: the turn has it whole, beside the one that was cut.
    """

    conversation_id: str
    messages: Sequence[Mapping[str, Any]]
    stream: bool
    model: str
    deployment: str | None
    user: str | None
    key_id: str | None
    protocol: Protocol
    source: str = "api"
    task: str | None = None
    begun: str = ""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended: the HTTP status, what answered, and what is counted and kept of it.

    `used` is None where no answer began, `usage` what the engine reported, `first_token_s` None where nothing streamed.
    `chunks` are the bytes that went out (none where nothing is recorded), a stream or JSON, and `times` when each piece of a
    stream did (monotonic, seconds); `error` is what the record
    says of a broken answer, `stopped` that the client left, and `failure` what the server must see raised.
    """

    status: int
    target: Target
    used: Used | None = None
    usage: Mapping[str, Any] | None = None
    first_token_s: float | None = None
    chunks: Sequence[bytes] = ()
    times: Sequence[float] = ()
    error: str | None = None
    stopped: bool = False
    failure: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answered request to record, with the seconds from its arrival to the end of its answer."""

    request: Recording
    answer: Answer
    seconds: float | None = None

    @property
    def model(self) -> str:
        """The model that the client asked for."""
        return self.request.model

    def parse(self) -> ParsedAnswer:
        """Parse the answer's bytes."""
        return self.request.protocol.read_answer(b"".join(self.answer.chunks), self.request.stream)

    def thought_s(self) -> float | None:
        """Return the seconds of a streamed answer before its first text or tool call; None where it had none to time."""
        times, chunks = self.answer.times, self.answer.chunks
        if not times:
            return None
        read = self.request.protocol.read_answer

        def answers(size: int) -> bool:
            parsed = read(b"".join(chunks[:size]), True)
            return bool(parsed.text or parsed.carried.get("tool_calls"))

        # Parsed here and not as pieces pass: only an answer with reasoning costs this, after its end.
        first = bisect_left(range(1, len(times) + 1), True, key=answers)
        return times[min(first, len(times) - 1)] - times[0]

    def turn(self) -> Turn | None:
        """Return the turn to record, None where there is none: no completion id, or content that is not text.

        Tool calls, reasoning and definitions of tools are recorded; a conversation with pictures or sound is not.
        """
        request, answer, parsed = self.request, self.answer, self.parse()
        if parsed.id is None:
            return None
        try:
            messages = read_conversation(list(request.messages))
            carried = read_carried(parsed.carried, "answer")
        except Invalid:
            return None
        usage = answer.usage or parsed.usage
        return Turn(
            completion_id=parsed.id,
            conversation_id=request.conversation_id,
            messages=messages,
            answer=parsed.text if parsed.text is None else request.begun + parsed.text,
            carried=carried,
            deployment=request.deployment,
            release=answer.target.release_id,
            lane=answer.target.lane,
            model=request.model,
            user=request.user,
            key_id=request.key_id,
            source=request.source,
            task=request.task,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            finish_reason="client_stopped" if answer.stopped else parsed.finish_reason,
            first_token_s=answer.first_token_s,
            seconds=self.seconds,
            thought_s=self.thought_s() if parsed.carried.get("reasoning_content") else None,
            error=answer.error,
            created_at=request.created_at,
        )
