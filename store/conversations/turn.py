"""One answered request of the gateway, as it is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from store.db.record import Record
from store.values import Conversation


@dataclass(frozen=True, slots=True)
class Turn(Record):
    """One answer of the gateway, to be recorded.

    `messages` is the conversation as the client sent it (without the release's own system prompt), `answer`
    the text that came back (None when nothing did, with `error`), `carried` what it has beside text (see
    `store.carried`). `release` is the release's record id.
    Seconds are wall-clock; `first_token_s` counts from the request to the first token,
    `thought_s` from there to the first text or tool call after reasoning. `conversation_id` is the id that
    the client gave; in the store it belongs to one owner (see `store.conversations.conversations`). `source` says
    what the request came
    from (`chat`, `cli`, `frontend`, `api`, `task`, or a name that the client gave), `task` what a program wanted.
    """

    completion_id: str
    conversation_id: str
    messages: Conversation
    answer: str | None
    deployment: str | None = None
    release: str | None = None
    lane: str | None = None
    model: str | None = None
    user: str | None = None
    key_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    first_token_s: float | None = None
    seconds: float | None = None
    thought_s: float | None = None
    error: str | None = None
    source: str = "api"
    task: str | None = None
    carried: str = ""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
