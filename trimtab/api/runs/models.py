"""Training runs and their plans."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from store.rollout.runs import GateMode, Rollout, Start
from trimtab.api.base import Method, Request, View


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
    start: Start = Field(
        default="auto",
        description="adapter to go on from: that of stable, a new one on the base, or auto: what other methods trained of "
        "stable's",
    )


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
    start: Start
    no_system_prompt: bool = Field(
        default=False, description="its release has no system prompt: it learned to answer as with one"
    )
    start_adapter: str | None = Field(
        default=None, description="what training went on from; null: the base model"
    )
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
    left_out: dict[str, int] = Field(
        default_factory=dict, description="rows of the snapshot left out of training or shortened, by reason"
    )
    values: dict[str, Any] = Field(
        default_factory=dict,
        description="the complete recipe that it is trained with, once its snapshot is taken",
    )
    origin: dict[str, str] = Field(default_factory=dict, description="where each of those values came from")
    notes: list[str] = Field(default_factory=list, description="what the worker had to say of data and model")
    requested_by: str | None = None
    created_at: datetime
    updated_at: datetime
    transitions: list[TransitionView] = Field(default_factory=list)
    seconds_by_state: dict[str, float] = Field(default_factory=dict)
