"""What has an id: one frozen dataclass a noun, as the store hands it out. Times are aware, in UTC.

A record never holds a secret. `to_json` gives what the HTTP API may show.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from store.values import Conversation, Demonstration, Message, PreferencePair

ROLES = ("chat", "rater", "ops")
CHOICES = ("a", "b", "tie", "both_bad")
Choice = Literal["a", "b", "tie", "both_bad"]


class Record:
    """Base of the records: `to_json` turns every field into JSON values, times into ISO 8601 with Z."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        assert is_dataclass(self)
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class User(Record):
    """A person who may log in. `roles` are among `ROLES`."""

    id: str
    name: str
    roles: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Key(Record):
    """An API key; `hint` is the start of its secret. `user` is the person it speaks for, or None.

    `stores` says whether chat requests made with it are recorded.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    user: str | None
    hint: str
    created_at: datetime
    revoked_at: datetime | None = None
    stores: bool = True


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What one payer used in a span of days: answered requests and their tokens.

    `holder` is `user NAME`, a key's id or another caller's name; `name` is what budgets and people call it.
    """

    holder: str
    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Turn(Record):
    """One answer of the gateway, to be recorded.

    `messages` is the conversation as the client sent it (without the release's own system prompt), `answer`
    the text that came back (None when nothing did, with `error`). `release` is the release's record id.
    Seconds are wall-clock; `first_token_s` counts from the request to the first token. `conversation_id` is the id that
    the client gave; in the store it belongs to one owner (see `store.feedback.conversations`). `source` says
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
    error: str | None = None
    source: str = "api"
    task: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class MessageRecord(Record):
    """One message of a stored conversation; the completion's facts where a model wrote it."""

    id: str
    role: str
    content: str
    created_at: datetime
    completion_id: str | None = None
    release: str | None = None
    lane: str | None = None
    liked: bool | None = None

    def value(self) -> Message:
        """Return the message as a value."""
        return Message(self.role, self.content)


@dataclass(frozen=True, slots=True)
class ConversationRecord(Record):
    """A stored conversation: the branch that was answered last, oldest message first.

    In listings `messages` is empty and `title` is the start of the first user message.
    """

    id: str
    user: str | None
    deployment: str | None
    title: str
    created_at: datetime
    updated_at: datetime
    messages: tuple[MessageRecord, ...] = ()
    source: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """One response of a comparison, who gave it, and why it ended (see `store.training_data.origin`).

    `release` is the release's record id.
    """

    content: str
    release: str | None = None
    lane: str | None = None
    model: str | None = None
    completion_id: str | None = None
    sampling: dict[str, Any] | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """One conversation so far and two candidates. `state` is open, decided or withdrawn.

    Which candidate is `a` was drawn at random when it was made. `gold` is the known right choice of a gold
    question, else None. `blind` is what a rater may see.
    """

    id: str
    messages: Conversation
    a: Candidate
    b: Candidate
    deployment: str | None
    source: str
    asked_by: str | None
    state: str
    votes_wanted: int
    votes_given: int
    created_at: datetime
    decided_at: datetime | None = None
    gold: str | None = None

    def blind(self) -> dict[str, Any]:
        """Return what a rater may see: id, messages and the two texts."""
        return {
            "id": self.id,
            "messages": [m.to_json() for m in self.messages],
            "a": self.a.content,
            "b": self.b.content,
        }


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """A rater's verdict.

    `pairs` and `demonstration` are the ids of what was derived from it in the same commit.
    """

    id: str
    comparison: str
    rater: str
    choice: str
    better: str | None
    tags: tuple[str, ...]
    created_at: datetime
    seconds: float | None = None
    pairs: tuple[str, ...] = ()
    demonstration: str | None = None


@dataclass(frozen=True, slots=True)
class PairRecord(Record):
    """A stored preference pair.

    `deployment` None means every deployment; `source` is vote, rewrite or an import's.
    """

    id: str
    pair: PreferencePair
    content_hash: str
    deployment: str | None
    source: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DemonstrationRecord(Record):
    """A stored demonstration.

    `deployment` None means every deployment; `source` is rewrite, like or an import's.
    """

    id: str
    demonstration: Demonstration
    content_hash: str
    deployment: str | None
    source: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RejectedRow(Record):
    """A row that an import refused: its number in the input, from 1, and the reason."""

    row: int
    why: str


@dataclass(frozen=True, slots=True)
class ImportResult(Record):
    """What became of an import's rows: counts, and the first refused rows (`rejected_count` counts all).

    Of the rows that were not refused: `unused_columns` counts by column those that have a value in it that was not used,
    `rules` by name (store.import_notes) those that a rule changed the reading of.
    """

    id: str
    accepted: int
    duplicates: int
    rejected: tuple[RejectedRow, ...] = ()
    rejected_count: int = 0
    unused_columns: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot(Record):
    """A frozen dataset.

    `hash` is its id (`s-…`), `directory` holds its files, `last_seq` the newest row it saw.
    """

    hash: str
    deployment: str
    method: str
    directory: str
    settings: dict[str, Any]
    report: dict[str, Any]
    train_rows: int
    heldout_rows: int
    last_seq: int
    created_at: datetime

    @property
    def id(self) -> str:
        """The content hash."""
        return self.hash


@dataclass(frozen=True, slots=True)
class Run(Record):
    """One training run; see store.rollout.run_states for `state`.

    `release` is a release's record id. `start_from` says what training goes on from: `stable` (its adapter,
    where it has one) or `base`.
    """

    id: str
    method: str
    deployment: str
    qlora: bool
    params: dict[str, Any]
    recipe: str | None
    rollout: str
    gate: str
    start_from: str
    requested_by: str | None
    state: str
    step: int
    total_steps: int | None
    base: str | None
    start_adapter: str | None
    snapshot: str | None
    adapter: str | None
    release: str | None
    evaluation: str | None
    gate_decision: dict[str, Any] | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    cancel_requested: bool
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunEvent(Record):
    """One entry of a run's event stream. `kind` is "state" ({from, to, …}) or "metrics" ({step, …})."""

    seq: int
    run: str
    kind: str
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AdapterRecord(Record):
    """One immutable adapter.

    `hash` is its id (`a-…`). `start_adapter` is the adapter its training began from.
    """

    hash: str
    base: str
    path: str
    rank: int | None = None
    bytes: int | None = None
    target_modules: tuple[str, ...] = ()
    run: str | None = None
    start_adapter: str | None = None
    parity: dict[str, Any] | None = None
    created_by: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def id(self) -> str:
        """The content hash."""
        return self.hash


@dataclass(frozen=True, slots=True)
class Release(Record):
    """Base model, adapter or none, system prompt or none, sampling defaults; numbered in its deployment."""

    id: str
    deployment: str
    number: int
    base: str
    adapter: str | None
    system_prompt: str | None
    sampling: dict[str, Any]
    run: str | None
    created_by: str | None
    created_at: datetime

    @property
    def ref(self) -> str:
        """The public name, such as `assistant@3`."""
        return f"{self.deployment}@{self.number}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `ref`."""
        return Record.to_json(self) | {"ref": self.ref}


@dataclass(frozen=True, slots=True)
class Deployment(Record):
    """A public model name.

    `stable`, `canary` and `earlier` (rollback targets, newest last) are release ids.
    """

    name: str
    base: str
    stable: str
    canary: str | None
    canary_weight: float | None
    earlier: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Evaluation(Record):
    """One evaluation of a release, at times against another; both are release ids."""

    id: str
    release: str
    against: str | None
    suite: str
    state: str
    requested_by: str | None
    run: str | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class LeaderboardRow(Record):
    """A release's standing: `score` on the Elo scale (mean 1000), `low` to `high` its 95 % interval.

    Scores of releases in different `group`s, which nobody compared, say nothing about each other.
    """

    release: str
    wins: int
    losses: int
    ties: int
    votes: int
    score: float
    low: float
    high: float
    group: int = 1


@dataclass(frozen=True, slots=True)
class AuditEntry(Record):
    """Who did what to which subject, and when."""

    id: str
    actor: str | None
    action: str
    subject: str
    detail: dict[str, Any]
    created_at: datetime


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Record | Message | PreferencePair | Demonstration):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
