"""The JSON of the operations API, in one place: what comes in (unknown fields refused) and what goes out.

Times are ISO 8601 in UTC, durations seconds, sizes bytes. Listings are plain arrays, newest first unless said.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant", "tool"]
Method = Literal["dpo", "sft", "kto"]
Rollout = Literal["none", "canary", "promote"]
GateMode = Literal["enforce", "report"]
Start = Literal["stable", "base"]
Choice = Literal["a", "b", "tie", "both_bad"]
AccessRole = Literal["chat", "rater", "ops"]


class Request(BaseModel):
    """Base of every request body: an unknown field is an error, not a silence."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(from_attributes=True)


# ---- conversations, comparisons, votes


class MessageBody(Request):
    """One message of a conversation."""

    role: Role
    content: str = Field(min_length=1, max_length=200_000)


class LikeRequest(Request):
    """A thumb on one answer: up, down, or (null) taken back."""

    liked: bool | None


class ComparisonRequest(Request):
    """Asks for two candidate responses to one conversation."""

    messages: list[MessageBody] = Field(min_length=1, max_length=200)
    deployment: str | None = None
    releases: list[str] | None = Field(default=None, min_length=2, max_length=2)
    sampling: dict[str, Any] = Field(default_factory=dict)


class GoldRequest(Request):
    """A question whose answer is known, to measure raters by; it looks like any other comparison."""

    messages: list[MessageBody] = Field(min_length=1, max_length=200)
    good: str = Field(min_length=1, max_length=200_000)
    bad: str = Field(min_length=1, max_length=200_000)
    deployment: str | None = None
    votes_wanted: int = Field(default=10, ge=1, le=1000, description="raters that it is shown to")


class ComparisonView(View):
    """A comparison as a rater sees it: never says which release wrote which response."""

    id: str
    messages: list[dict[str, Any]]
    a: str
    b: str
    state: str = "open"
    source: str = "rank"
    created_at: datetime | None = None


class VoteRequest(Request):
    """A rater's verdict; `better` is a response that the rater wrote."""

    choice: Choice
    better: str | None = Field(default=None, max_length=200_000)
    tags: list[str] = Field(default_factory=list, max_length=20)
    seconds: float | None = Field(default=None, ge=0, description="how long the rater took")


class VoteView(View):
    """A recorded vote, and what it revealed and produced."""

    id: str
    comparison: str
    choice: Choice
    revealed: dict[str, str | None]
    pairs: list[str] = Field(default_factory=list)
    demonstration: str | None = None


# ---- training data


class RejectedRowView(View):
    """One row that an import refused; `row` counts from 1."""

    row: int
    why: str


class ImportView(View):
    """What an import did."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRowView] = Field(description="the first refused rows")
    rejected_count: int


class PairView(View):
    """One preference pair."""

    id: str
    prompt: list[dict[str, Any]]
    chosen: str
    rejected: str
    weight: float = 1.0
    source: str = ""
    deployment: str | None = None
    created_at: datetime | None = None


class DemonstrationView(View):
    """One demonstration."""

    id: str
    prompt: list[dict[str, Any]]
    completion: str
    source: str = ""
    deployment: str | None = None
    created_at: datetime | None = None


# ---- runs


class RunRequest(Request):
    """Asks for a training run. `params` carry TRL's and PEFT's own names."""

    method: Method
    deployment: str = "assistant"
    qlora: bool = False
    recipe: str | None = Field(
        default=None, description="name of a recipe to begin with; `params` win over it"
    )
    params: dict[str, Any] = Field(default_factory=dict)
    rollout: Rollout = "canary"
    gate: GateMode = "enforce"
    start: Start = Field(default="stable", description="adapter to go on from: that of stable, or a new one")


class RecipeView(View):
    """A recipe that runs can begin with. `values` are those that it sets; the rest are the method's defaults."""

    name: str
    method: Method
    qlora: bool
    about: str
    values: dict[str, Any]


class PlanView(View):
    """What a run would need: bytes by part at its peak, steps, seconds, and whether that fits this machine now."""

    device: Literal["cpu", "cuda"]
    rows: int
    trainable_parameters: int
    parts: dict[str, float]
    total: float
    available: float | None
    fits: bool
    steps: int
    seconds: float
    advice: str
    notes: list[str]
    text: str = Field(description="all of it as lines for a terminal")
    values: dict[str, Any] = Field(description="the complete recipe")
    origin: dict[str, str] = Field(description="where each value came from")


class TransitionView(View):
    """A run entered a state."""

    state: str
    at: datetime
    detail: str | None = None


class ActivityView(View):
    """What the worker of a run is doing: `done` of `of` rows or steps, where it counts them."""

    phase: str = Field(description="loading, reference, before, training, after, saving or probe")
    stage: Literal["sft"] | None = Field(default=None, description="sft: the first half of SFT, then DPO")
    done: int | None = None
    of: int | None = None


class RunView(View):
    """One training run."""

    id: str
    method: Method
    deployment: str
    qlora: bool
    recipe: str | None = None
    params: dict[str, Any]
    rollout: Rollout
    gate: GateMode
    state: str
    step: int = 0
    total_steps: int | None = None
    activity: ActivityView | None = Field(default=None, description="while it is training")
    metrics: dict[str, Any] = Field(default_factory=dict, description="the newest step's metrics")
    snapshot: str | None = None
    adapter: str | None = None
    release: str | None = Field(default=None, description="its name, `assistant@4`")
    evaluation: str | None = None
    gate_decision: dict[str, Any] | None = None
    error: str | None = None
    requested_by: str | None = None
    created_at: datetime
    updated_at: datetime
    transitions: list[TransitionView] = Field(default_factory=list)
    seconds_by_state: dict[str, float] = Field(default_factory=dict)


# ---- releases, deployments


class ReleaseRequest(Request):
    """Makes a release: a prompt change and a fine-tune are the same kind of thing."""

    deployment: str
    base: str | None = None
    adapter: str | None = Field(default=None, description="an adapter's id, or a local PEFT directory")
    system_prompt: str | None = Field(default=None, max_length=100_000)
    sampling: dict[str, Any] = Field(default_factory=dict)


class ReleaseView(View):
    """One immutable release."""

    id: str
    name: str
    deployment: str
    number: int
    base: str
    adapter: str | None
    system_prompt: str | None
    sampling: dict[str, Any]
    run: str | None
    lane: Literal["stable", "canary"] | None = None
    parity: dict[str, Any] | None = None
    created_by: str | None = None
    created_at: datetime


class CanaryRequest(Request):
    """Gives a release a share of the deployment's traffic."""

    release: str
    weight: float = Field(ge=0, le=1, description="share of the traffic, 0 to 1; 0 with shadow mode alone")


class PromoteRequest(Request):
    """Makes a release stable; without `release`, the canary."""

    release: str | None = None


class CanaryVotes(View):
    """What raters say of a canary beside the stable release, since it began.

    `evidence_for` and `evidence_against` are e-values: 20 decides at `votes_alpha = 0.05`.
    """

    wins: int
    losses: int
    ties: int
    evidence_for: float
    evidence_against: float
    needed: float | None = Field(description="evidence that decides; none where an operator decides")
    min_votes: int


class DeploymentView(View):
    """One deployment and where its traffic goes."""

    name: str
    base: str
    stable: str
    canary: str | None
    weight: float
    previous: str | None = Field(default=None, description="where a rollback goes")
    updated_at: datetime | None = None
    votes: CanaryVotes | None = Field(
        default=None, description="canary against stable; none without a canary"
    )


# ---- evaluations


class EvalRequest(Request):
    """Measures a release, against another where one is named."""

    release: str
    against: str | None = None
    suite: str = "default"


class EvalView(View):
    """One evaluation and, once it is done, its report."""

    id: str
    release: str
    against: str | None
    suite: str
    state: str
    report: dict[str, Any] | None = None
    error: str | None = None
    created_at: datetime | None = None


class LeaderboardRowView(View):
    """A release ranked from votes; `low` and `high` bound the score at 95%."""

    release: str
    wins: int
    losses: int
    ties: int
    votes: int
    score: float
    low: float
    high: float


# ---- people, keys, status


class KeyRequest(Request):
    """Makes an API key; its secret is shown once, in the answer."""

    name: str = Field(min_length=1, max_length=100)
    roles: list[AccessRole] = Field(default=["chat"], min_length=1)


class KeyView(View):
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    roles: list[str]
    created_at: datetime
    revoked_at: datetime | None = None
    secret: str | None = Field(default=None, description="only in the answer that made the key")


class UserRequest(Request):
    """Makes a user who can sign in."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._@-]+$")
    roles: list[AccessRole] = Field(default=["chat", "rater"], min_length=1)
    password: str = Field(min_length=8, max_length=200)


class UserView(View):
    """A user."""

    id: str
    name: str
    roles: list[str]
    created_at: datetime


class SpentView(View):
    """What is used of a calendar day or month, and the budgets of it; none is no limit."""

    requests: int
    tokens: int
    requests_budget: int | None
    tokens_budget: int | None


class UsageView(View):
    """What a user, a key or another caller used: in the days that were asked for, today and this month (UTC)."""

    kind: Literal["user", "key", "other"]
    id: str = Field(description="a user's name, a key's id, another caller's name")
    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    today: SpentView
    month: SpentView


class WhoAmIView(View):
    """Who asks, and what they may do."""

    name: str
    roles: list[str]
    mode: Literal["single-user", "multi-user"]


class EngineView(View):
    """One engine process."""

    name: str
    base: str
    state: str
    detail: str | None = None
    pid: int | None = None
    restarts: int = 0
    adapters: list[str] = Field(default_factory=list)
    log_tail: list[str] = Field(default_factory=list)


class ScheduleView(View):
    """When retraining starts by itself."""

    enabled: bool
    cron: str | None
    every_pairs: int | None
    deployment: str
    method: Method
    qlora: bool
    rollout: Rollout
    next_at: datetime | None
    new_pairs: int


class StatusView(View):
    """The platform at a glance."""

    version: str
    mode: Literal["single-user", "multi-user"]
    ready: bool
    missing: list[str]
    url: str
    pid: int
    started_at: datetime
    engines: list[EngineView]
    deployments: list[DeploymentView]
    pairs: dict[str, int]
    demonstrations: dict[str, int]
    comparisons: dict[str, int]
    active_runs: list[str] = Field(description="queued, training or on the way to a release; not canaries")
    schedule: ScheduleView
