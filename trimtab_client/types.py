"""Records of the operations API as typed dictionaries; times are ISO 8601 texts.

A test compares each with the platform's own model, so that no field is missing or misspelled.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from trimtab_client.values import Choice, GateMode, JobState, Method, Role, Rollout, RunState, Share, Start


class WhoAmI(TypedDict):
    """The caller and their roles."""

    name: str
    roles: list[Role]
    mode: str


class Comparison(TypedDict):
    """Two to four blind candidates for one conversation."""

    id: str
    messages: list[dict[str, Any]]
    a: str
    b: str
    a_message: dict[str, Any] | None
    b_message: dict[str, Any] | None
    c: str | None
    d: str | None
    c_message: dict[str, Any] | None
    d_message: dict[str, Any] | None
    branches: dict[str, list[dict[str, Any]]] | None
    show: Literal["answers", "whole"]
    reasons: list[str]
    skip_reasons: list[str]
    guidelines: str
    state: str
    source: str
    created_at: str | None


class Vote(TypedDict):
    """A recorded vote: the releases behind `a` and `b`, and the rows that it made."""

    id: str
    comparison: str
    choice: Choice
    revealed: dict[str, str | None]
    pairs: list[str]
    demonstration: str | None
    places: list[int] | None
    revised: bool


class Transition(TypedDict):
    """The moment at which a run entered a state."""

    state: RunState
    at: str
    detail: str | None


class Run(TypedDict):
    """A training run."""

    id: str
    method: Method
    deployment: str
    qlora: bool
    recipe: str | None
    params: dict[str, Any]
    rollout: Rollout
    gate: GateMode
    start: Start
    no_system_prompt: bool
    start_adapter: str | None
    state: RunState
    step: int
    total_steps: int | None
    activity: dict[str, Any] | None
    metrics: dict[str, Any]
    snapshot: str | None
    adapter: str | None
    release: str | None
    evaluation: str | None
    gate_decision: dict[str, Any] | None
    error: str | None
    left_out: dict[str, int]
    values: dict[str, Any]
    origin: dict[str, str]
    notes: list[str]
    requested_by: str | None
    created_at: str
    updated_at: str
    transitions: list[Transition]
    seconds_by_state: dict[str, float]


class Plan(TypedDict):
    """The memory (bytes) and time (seconds) that a run would need."""

    device: str
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
    text: str
    values: dict[str, Any]
    origin: dict[str, str]


class Release(TypedDict):
    """A release: base model, adapter, system prompt, sampling defaults."""

    id: str
    name: str
    deployment: str
    number: int
    base: str
    adapter: str | None
    system_prompt: str | None
    sampling: dict[str, Any]
    chat_template_kwargs: dict[str, Any]
    run: str | None
    lane: str | None
    parity: dict[str, Any] | None
    created_by: str | None
    created_at: str
    inherited: list[str] | None
    inherited_from: str | None
    blend: dict[str, Any] | None


class Deployment(TypedDict):
    """A deployment and the shares of its traffic."""

    name: str
    base: str
    stable: str
    canary: str | None
    weight: float
    previous: str | None
    updated_at: str | None
    votes: dict[str, Any] | None


class Evaluation(TypedDict):
    """An evaluation of a release; `report` once it is done, `progress` while it runs."""

    id: str
    release: str
    against: str | None
    suite: str
    state: str
    report: dict[str, Any] | None
    error: str | None
    created_at: str | None
    progress: dict[str, Any] | None


class Job(TypedDict):
    """A long task; `progress` while it runs, `result` once it is done."""

    id: str
    kind: str
    state: JobState
    params: dict[str, Any]
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str | None
    requested_by: str | None
    created_at: str
    updated_at: str


class Key(TypedDict):
    """An API key; only the answer that made it has its `secret`."""

    id: str
    name: str
    prefix: str
    roles: list[Role]
    created_at: str
    revoked_at: str | None
    user: str | None
    store: bool
    secret: str | None
    notice: str | None


class User(TypedDict):
    """A person who may sign in."""

    id: str
    name: str
    roles: list[Role]
    created_at: str
    notice: str | None


class Shared(TypedDict):
    """What may be done with somebody's conversations; `default` is the platform's setting."""

    share: Share
    chosen: bool
    default: Share
    name: str | None
