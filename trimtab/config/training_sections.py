"""Settings of what learns: schedule, snapshots, runs and adapters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from common.training_methods import Method
from store.accounts import names
from store.datasets import snapshot_settings
from store.rollout.runs import Rollout, Start
from trimtab.config.section import Section

# The value classes that the sections build; their defaults are written there alone.
_SNAPSHOT = snapshot_settings.SnapshotSettings()


class ScheduleSettings(Section):
    """Retraining that starts by itself; off unless `cron` or `every_pairs` is set."""

    cron: str | None = Field(
        None,
        description="cron expression in `timezone`: five fields (minute, hour, day, month, weekday)",
    )
    timezone: str = Field("UTC", description="time zone of `cron` and `windows`, such as Europe/Berlin")
    windows: tuple[str, ...] = Field(
        (),
        description="times in which a run may start, such as `mon-fri 22:00-06:00`; outside it waits (empty: always)",
    )
    jitter_minutes: int = Field(
        0,
        ge=0,
        le=1440,
        description="start up to this much after the moment that `cron` names, the same for each moment",
    )
    every_pairs: int | None = Field(
        None,
        ge=1,
        description="new rows since the last snapshot that start a run: pairs for dpo, demonstrations for sft, "
        "likes and dislikes for kto",
    )
    deployment: str = Field("assistant", description="deployment to retrain")
    method: Method = Field("dpo", description="training method")
    recipe: str | None = Field(None, description="recipe to begin with; `params` override it")
    qlora: bool = Field(False, description="train over the 4-bit base")
    rollout: Rollout = Field("canary", description="how far a run goes by itself")
    start: Start = Field(
        "auto",
        description="what training goes on from: stable's adapter, the base, or auto (docs/training.md)",
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="training parameters, TRL's and PEFT's names"
    )

    @property
    def enabled(self) -> bool:
        """Whether anything can become due."""
        return self.cron is not None or self.every_pairs is not None

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value != "UTC":  # the settings are read at each command's start
            from common.time_windows import time_zone

            time_zone(value)
        return value

    @field_validator("windows")
    @classmethod
    def _are_windows(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            from common.time_windows import parse_window

            for text in value:
                parse_window(text)
        return value

    @field_validator("cron")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        if value is not None:
            from datetime import UTC, datetime

            from cronsim import CronSim, CronSimError

            if len(value.split()) != 5:  # the parser would take seconds as a sixth
                raise ValueError(
                    f"not a cron expression ({len(value.split())} fields; accepted: five: "
                    "minute hour day month weekday); example: '0 3 * * *'"
                )
            try:
                CronSim(value, datetime.now(UTC))
            except CronSimError as error:
                raise ValueError(f"not a cron expression ({error}); example: '0 3 * * *'") from error
        return value


class SnapshotSettings(Section):
    """How pairs and demonstrations become a data set."""

    heldout_fraction: float = Field(
        _SNAPSHOT.heldout_fraction,
        gt=0,
        le=0.5,
        description="share of the conversations that is held out",
    )
    heldout_clusters: int = Field(
        _SNAPSHOT.heldout_clusters,
        ge=0,
        description="hold out more, up to a third, where the share gives fewer conversations than this",
    )
    mix: dict[
        Literal["vote", "rewrite", "like", "import", "rules", "judge", "release", "distilled"],
        Annotated[float, Field(ge=0, allow_inf_nan=False)],
    ] = Field(
        dict(snapshot_settings.MIX),
        description="rows of a source for each row of the sources with the highest number; of rows that no person judged "
        "(rules, judge, release, distilled) the weight together for each weight of all others",
        validate_default=True,
    )
    seed: int = Field(
        _SNAPSHOT.seed,
        ge=0,
        description="decides which prompts are held out",
    )
    ties: snapshot_settings.Ties = Field(
        _SNAPSHOT.ties,
        description="leave ties out, or let them lower a weight",
    )
    exclude_raters: tuple[Annotated[str, AfterValidator(names.spell)], ...] = Field(
        _SNAPSHOT.exclude_raters,
        description="people whose votes and rewrites do not count",
    )
    min_weight: float = Field(
        _SNAPSHOT.min_weight,
        ge=0,
        le=1,
        description="least margin of agreement of a pair",
    )
    replay: float = Field(
        _SNAPSHOT.replay,
        ge=0,
        le=1,
        description="share of the rows of earlier snapshots that comes again",
    )
    max_per_prompt: int | None = Field(
        _SNAPSHOT.max_per_prompt,
        ge=1,
        description="most rows of one prompt",
    )
    max_per_rater: int | None = Field(
        _SNAPSHOT.max_per_rater,
        ge=1,
        description="most rows of one person",
    )
    near_duplicates: float | None = Field(
        _SNAPSHOT.near_duplicates,
        ge=0.7,
        le=1,
        description="Jaccard similarity from which prompts count as one",
    )


class TrainingSettings(Section):
    """How runs are fed and checked."""

    parity_tolerance: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="largest mean absolute difference of served and trained log-probabilities, nats per token; "
        "auto: from what the base model itself differs by",
    )
    checkpoint_steps: int = Field(
        20, ge=1, description="optimiser steps between checkpoints, unless recipe or run say save_steps"
    )
    max_nf4_drift: float | None = Field(
        None,
        gt=0,
        description="largest drift of a QLoRA adapter from its NF4 base to the served one, nats per token",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda|cuda:\d+)$",
        description="where a run trains: auto (the card with most room, else the processor), cpu, cuda, or cuda:N for one "
        "card, as `nvidia-smi` counts",
    )
    make_room: Literal["never", "shrink", "sleep"] = Field(
        "never",
        description="what engines do where a run needs more memory than is left on its card: nothing; start again with "
        "the least KV cache; or sleep until the run has trained, while requests go to replicas or get 503",
    )
    worker_threads: int = Field(0, ge=0, description="CPU threads of a worker; 0 leaves it to torch")
    keep_warm: bool = Field(
        True,
        description="keep a worker waiting that has done its imports: a run begins at once; about 550 MB of memory",
    )


class AdaptersSettings(Section):
    """Which old adapters are deleted, every hour; none of both keeps all. What a rollback needs always stays."""

    keep_last: int | None = Field(None, ge=0, description="newest adapters to keep")
    max_age_days: float | None = Field(None, gt=0, description="age from which adapters go, days")
