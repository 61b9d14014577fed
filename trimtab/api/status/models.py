"""The platform at a glance."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from store.rollout.runs import Rollout
from trimtab.api.base import Method, View
from trimtab.api.deployments.models import DeploymentView


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


class CardHolderView(View):
    """Who holds memory of a card."""

    name: str = Field(description="`engine NAME`, `training` or other programs")
    bytes: int
    measured: bool = Field(description="false where the driver shows no processes: what the engine was given")


class CardView(View):
    """One NVIDIA card; sizes in bytes."""

    index: int = Field(description="as `nvidia-smi` counts")
    name: str
    total: int
    free: int
    holders: list[CardHolderView]


class ScheduleView(View):
    """When retraining starts by itself."""

    name: str = Field(description="its table in the settings: schedule, or schedules.NAME")
    enabled: bool
    cron: str | None
    every_pairs: int | None
    deployment: str
    method: Method
    qlora: bool
    recipe: str | None
    rollout: Rollout
    next_at: datetime | None
    new_pairs: int = Field(description="pairs of the deployment since its last snapshot for DPO")
    rows: str = Field(description="what the method learns from: pairs, demonstrations or likes")
    new_rows: int = Field(description="rows of those since the deployment's last snapshot for the method")


class PlannedView(View):
    """A moment that a cron expression names, and from when on a run may start for it."""

    moment: datetime
    starts_at: datetime = Field(description="the moment, its jitter, and the opening of a window after it")


class SchedulePreviewView(View):
    """What a schedule would start, when and why."""

    name: str
    deployment: str
    method: Method
    timezone: str
    windows: list[str]
    jitter_minutes: int
    rows: str
    new_rows: int
    says: str = Field(description="what it waits for, in words")
    planned: list[PlannedView] = Field(
        description="the next moments; each starts a run if there are new rows"
    )


class FirstStepView(View):
    """One step of the first time through."""

    name: str = Field(description="chat, rank, train, look (at an evaluation's report) or roll_out")
    have: int
    wanted: int
    done: bool


class AuditOptionsView(View):
    """What the audit log can be filtered by."""

    actors: list[str]
    actions: list[str]


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
    cards: list[CardView] = Field(default_factory=list)
    deployments: list[DeploymentView]
    pairs: dict[str, int]
    demonstrations: dict[str, int]
    comparisons: dict[str, int]
    active_runs: list[str] = Field(description="queued, training or on the way to a release; not canaries")
    schedule: ScheduleView = Field(description="the table `schedule` of the settings")
    schedules: list[ScheduleView] = Field(description="every schedule that is enabled")
    first_steps: list[FirstStepView] = Field(
        default_factory=list, description="what the first time through consists of, in its order"
    )
