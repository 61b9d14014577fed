"""Every setting, its meaning, its default and what it accepts. No setting is needed;
`trimtab.config.settings_file` reads them."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from align.evaluation.gate import BOUNDS, DEFAULT_CHECKS, Check, with_overrides
from common.training_methods import Method
from store.accounts import names
from store.db.database import MEMORY
from trimtab.config.paths import DEFAULT_DATA

DEFAULT_BASE = "smollm2-135m-instruct"
"""The base model that ships as a package and needs no download."""


class Section(BaseModel):
    """Base of every table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """Where the platform listens."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    drain_s: int = Field(5, ge=0, description="how long open requests may take to finish at a stop, seconds")
    allowed_hosts: list[str] = Field(
        default_factory=list, description="further Host names that browsers may use in single-user mode"
    )
    require_key: bool = Field(
        False,
        description="ask for a key or a sign-in on this machine too, before the first user exists (behind a proxy)",
    )
    cors_origins: list[str] = Field(
        default_factory=list,
        description="origins whose pages may use /v1 and /api with a key, such as `https://app.example`, or `*`",
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (
                origin != f"{parts.scheme}://{parts.netloc}"
                or not (parts.scheme and parts.netloc)
                or "*" in origin
            ):
                raise ValueError(f"{origin!r} is no origin; accepted: SCHEME://HOST[:PORT], or *")
        return value


class BudgetSettings(Section):
    """What one user or key may use; none is no limit, in a budget of one's own what `limits` says of everybody."""

    max_concurrent: int | None = Field(None, ge=1, description="requests under way of one user or key")
    requests_per_minute: float | None = Field(
        None, gt=0, description="requests of one user or key in a minute"
    )
    tokens_per_minute: float | None = Field(
        None, gt=0, description="prompt and completion tokens of one user or key in a minute"
    )
    requests_per_day: int | None = Field(
        None, ge=1, description="answered requests of one user or key in a calendar day, UTC"
    )
    tokens_per_day: int | None = Field(
        None, ge=1, description="prompt and completion tokens of one user or key in a calendar day, UTC"
    )
    requests_per_month: int | None = Field(
        None, ge=1, description="answered requests of one user or key in a calendar month, UTC"
    )
    tokens_per_month: int | None = Field(
        None, ge=1, description="prompt and completion tokens of one user or key in a calendar month, UTC"
    )


class LimitsSettings(BudgetSettings):
    """What a caller of the gateway may ask for, and what each user and key may use; none is no limit."""

    max_body_bytes: int = Field(4 * 2**20, ge=1_000, description="largest body of a request to /v1, bytes")
    max_messages: int = Field(1000, ge=1, description="messages in a request")
    max_tokens: int | None = Field(None, ge=1, description="tokens that a request may ask for")
    max_n: int = Field(16, ge=1, description="answers that a request may ask for")
    max_outstanding: int = Field(2048, ge=1, description="requests under way in all")
    first_byte_timeout_s: float | None = Field(
        600.0, gt=0, description="longest silence before an answer begins, seconds"
    )
    budgets: dict[Annotated[str, AfterValidator(names.spell)], BudgetSettings] = Field(
        default_factory=dict, description="budgets by the name of a user or a key"
    )


class EngineSettings(Section):
    """One vLLM engine: a base model, served by a process of ours or at a URL."""

    base: str = Field(description="public name of the base model")
    model: str | None = Field(
        None, description="Hugging Face directory or hub id; none means the prepared directory of that base"
    )
    url: str | None = Field(
        None, description="an engine that runs elsewhere; none means that one is started here"
    )
    api_key: str | None = Field(None, description="key of the engine at `url`")
    replicas: int = Field(1, ge=1, le=64, description="processes of this engine")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it runs; auto takes a GPU if there is one"
    )
    kv_cache_memory_bytes: str = Field(
        "512M", pattern=r"^\d+[KMG]?$", description="key-value cache of an engine on the CPU"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of an engine; none takes all cores")
    nice: int | None = Field(
        None,
        ge=0,
        le=19,
        description="niceness of an engine; none means 10 on the CPU, behind the gateway, and 0 on a GPU. 0 takes an "
        "equal share of the cores where other programs keep them busy",
    )
    start_timeout_s: float = Field(
        900.0,
        gt=0,
        description="time in which an engine must serve, seconds; while it computes, busy_timeout_s more",
    )
    probe_interval_s: float = Field(10.0, gt=0, description="time between probes of an engine, seconds")
    probe_timeout_s: float = Field(
        60.0,
        gt=0,
        description="longest time without a token, a finished step or computing until an engine is restarted, seconds",
    )
    busy_timeout_s: float = Field(
        900.0, gt=0, description="longest time of computing on one step until an engine is restarted, seconds"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="vLLM arguments, by their own names")
    max_loras: int = Field(4, ge=1, le=64, description="adapters in one batch")
    max_cpu_loras: int = Field(16, ge=1, le=1024, description="adapters kept loaded")
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = Field(64, description="largest LoRA rank")


class DeploymentSettings(Section):
    """A public model name; its first release is made from this."""

    base: str = Field(DEFAULT_BASE, description="base model of its first release")
    system_prompt: str | None = Field(None, description="system prompt of its first release")
    sampling: dict[str, Any] = Field(
        default_factory=lambda: {"temperature": 0.7, "top_p": 0.95, "max_tokens": 512},
        description="sampling defaults of its first release",
    )


class ScheduleSettings(Section):
    """Retraining that starts by itself; off unless `cron` or `every_pairs` is set."""

    cron: str | None = Field(
        None, description="cron expression in UTC: five fields (minute, hour, day, month, weekday)"
    )
    every_pairs: int | None = Field(None, ge=1, description="new pairs since the last run that start one")
    deployment: str = Field("assistant", description="deployment to retrain")
    method: Method = Field("dpo", description="training method")
    qlora: bool = Field(False, description="train over the 4-bit base")
    rollout: Literal["none", "canary", "promote"] = Field(
        "canary", description="how far a run goes by itself"
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="training parameters, TRL's and PEFT's names"
    )

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
        0.1, gt=0, le=0.5, description="share of the conversations that is held out"
    )
    heldout_clusters: int = Field(
        40,
        ge=0,
        description="hold out more, up to a third, where the share gives fewer conversations than this",
    )
    mix: dict[Literal["vote", "rewrite", "like", "import"], Annotated[float, Field(ge=0)]] = Field(
        {"vote": 1.0, "rewrite": 1.0, "like": 1.0, "import": 0.2},
        description="rows of a source for each row of the sources with the highest number",
    )
    seed: int = Field(0, ge=0, description="decides which prompts are held out")
    ties: Literal["ignore", "discount"] = Field(
        "ignore", description="leave ties out, or let them lower a weight"
    )
    exclude_raters: tuple[Annotated[str, AfterValidator(names.spell)], ...] = Field(
        (), description="people whose votes and rewrites do not count"
    )
    min_weight: float = Field(0.0, ge=0, le=1, description="least margin of agreement of a pair")
    replay: float = Field(
        1.0, ge=0, le=1, description="share of the rows of earlier snapshots that comes again"
    )
    max_per_prompt: int | None = Field(None, ge=1, description="most rows of one prompt")
    max_per_rater: int | None = Field(None, ge=1, description="most rows of one person")
    near_duplicates: float | None = Field(
        0.8, ge=0.7, le=1, description="Jaccard similarity from which prompts count as one"
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
        description="largest drift of a QLoRA adapter from its NF4 base to the served one, nats a token",
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


class GateCheck(Section):
    """One bound on one measure of the suite; exactly one of the four bounds is given."""

    measure: str = Field(min_length=1, description="name of a measure of the suite's report")
    min: float | None = Field(None, description="least value")
    max: float | None = Field(None, description="largest value")
    not_worse_than_stable_by: float | None = Field(
        None, ge=0, description="how much worse than the stable release it may be"
    )
    not_worse_than_anchor_by: float | None = Field(
        None, ge=0, description="how much worse than the last release that an operator approved it may be"
    )
    required: bool = Field(True, description="false leaves the check out where its measure was not taken")

    @model_validator(mode="after")
    def _one_bound(self) -> GateCheck:
        given = [name for name in BOUNDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{self.measure}: {' and '.join(given) or 'no bound'} given; accepted: exactly one of "
                + ", ".join(BOUNDS)
            )
        return self


class GateSettings(Section):
    """What a release must reach in its evaluation before it may take traffic."""

    suite: Literal["quick", "default", "full"] = Field(
        "default",
        description="how much a run's release is measured on: 2, 8 or 64 answers, 16 to 1,024 held-out rows",
    )
    checks: tuple[GateCheck, ...] | None = Field(
        None,
        description="checks, each `{measure, min | max | not_worse_than_stable_by | not_worse_than_anchor_by, required}`; "
        "none takes those of docs/evaluation.md",
    )
    on_undecided: Literal["reject", "canary", "ask"] = Field(
        "canary",
        description="what becomes of a release that the checks neither pass nor fail: rejected, a canary at most, or "
        "published until a person decides",
    )
    min_items: int = Field(
        6, ge=1, description="independent prompts below which a check is undecided, whatever its interval"
    )
    min_preference_accuracy: float | None = Field(
        None, ge=0, le=1, description="least held-out preference accuracy of the new release; a further check"
    )
    max_accuracy_drop: float | None = Field(
        None, ge=0, le=1, description="largest drop of that accuracy against stable; a further check"
    )
    max_drift: float | None = Field(
        None,
        gt=0,
        description="largest mean absolute log-probability difference from stable, nats per token; a further check",
    )
    max_loss_rise: float | None = Field(
        None,
        gt=0,
        description="largest rise of the negative log-likelihood against stable, nats per token; a further check",
    )
    min_reward_accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="least share of held-out pairs with the higher implicit reward for the chosen answer, in place of "
        "the default 0.5",
    )
    max_length_ratio: float | None = Field(
        None,
        gt=0,
        description="largest ratio of the mean answer length to that of stable, in place of the default 2.5",
    )

    def all_checks(self) -> tuple[Check, ...]:
        """Return the checks that a release is judged by: `checks` or the defaults, and one for each threshold."""
        own = None if self.checks is None else tuple(Check(**check.model_dump()) for check in self.checks)
        thresholds = (
            ("min_preference_accuracy", "preference_accuracy", "min"),
            ("max_accuracy_drop", "preference_accuracy", "not_worse_than_stable_by"),
            ("max_drift", "drift", "max"),
            ("max_loss_rise", "loss", "not_worse_than_stable_by"),
            ("min_reward_accuracy", "reward_accuracy", "min"),
            ("max_length_ratio", "length_ratio", "max"),
        )
        further = tuple(
            Check(measure, **{bound: value})
            for name, measure, bound in thresholds
            if (value := getattr(self, name)) is not None
        )
        return with_overrides(DEFAULT_CHECKS if own is None else own, further)


class CanarySettings(Section):
    """How a canary meets traffic."""

    weight: float = Field(0.1, gt=0, le=1, description="share of the traffic of a new canary")
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of conversations that the canary answers too, unseen, for raters to compare",
    )
    pair: float = Field(
        0.0, ge=0, le=1, description="share of its turns in Chat that are shown as a blind pair with stable"
    )
    first_token_s: float | None = Field(
        None, gt=0, description="longest wait for its first token before stable answers, seconds"
    )
    max_failed: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of failed requests above which it is rolled back, if it also fails more often than stable",
    )
    min_requests: int = Field(20, ge=1, description="requests that this share is judged on at least")
    window_s: float = Field(600.0, gt=0, description="how far back it looks, seconds")
    votes_alpha: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="chance that votes promote one of a year's canaries (or roll one back) though it is just as good as "
        "stable; none leaves it to an operator",
    )
    min_votes: int = Field(30, ge=1, description="votes that prefer one of the two before they decide")
    raters: Literal["auto", "team", "crowd"] = Field(
        "auto",
        description="how votes are weighed: team takes rounds of one vote of each rater, crowd each rater's first five "
        "votes, auto a team of up to 15 raters",
    )
    max_votes: int = Field(500, ge=1, description="votes after which a canary that is still undecided ends")
    max_days: float = Field(30.0, gt=0, description="days after which a canary that is still undecided ends")
    on_max: Literal["keep_stable", "promote_if_not_worse", "ask"] = Field(
        "keep_stable",
        description="how it ends then: rolled back, promoted where votes prove it not worse, or left to an operator",
    )
    not_worse_by: float = Field(
        0.05, gt=0, lt=0.5, description="win rate below one half that still counts as not worse"
    )


class RankSettings(Section):
    """What raters are shown of what people and programs asked."""

    sources: tuple[Annotated[str, Field(pattern=f"^{names.SOURCE.pattern}$")], ...] = Field(
        ("chat", "cli", "frontend"),
        description="conversations whose prompts Rank draws and shadow mode compares: chat (Trimtab's Chat), cli (`trimtab "
        "chat`), frontend (a front end that names its conversations), api (any other program), task (what `X-Trimtab-Task` "
        "names), earlier (stored before sources were), or a name of `X-Trimtab-Source`",
    )
    second_votes: float = Field(
        0.15,
        ge=0,
        le=1,
        description="share of comparisons that two people judge, where several may rate: agreement is known from them",
    )


class PrivacySettings(Section):
    """What is taken out of people's words before they are stored."""

    redact: tuple[Literal["email", "phone", "secret"], ...] = Field(
        (), description="kinds that become [email], [phone], [secret] when storing: email, phone, secret"
    )
    region: str = Field(
        "US",
        pattern="^[A-Z]{2}$",
        description="where phone numbers without a country code are from (ISO 3166)",
    )


class StoreSettings(Section):
    """The DuckDB file with all that people said."""

    memory: str = Field(
        MEMORY,
        pattern=r"^[1-9][0-9]*(\.[0-9]+)?[MG]B$",
        description="memory for its pages and intermediate results, such as 512MB or 2GB; what is more goes to disk",
    )


class _TomlFile(TomlConfigSettingsSource):
    """A settings file, in UTF-8 with or without a byte order mark, which some editors write."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text("utf-8-sig"))


class Settings(BaseSettings):
    """The whole settings file."""

    model_config = SettingsConfigDict(
        env_prefix="TRIMTAB_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data: Path = Field(Path(DEFAULT_DATA), description="data directory")
    server: ServerSettings = Field(default_factory=ServerSettings, description="where the platform listens")
    engines: dict[str, EngineSettings] = Field(
        default_factory=lambda: {"main": EngineSettings(base=DEFAULT_BASE)}, description="engines by name"
    )
    deployments: dict[str, DeploymentSettings] = Field(
        default_factory=lambda: {"assistant": DeploymentSettings()}, description="deployments by name"
    )
    limits: LimitsSettings = Field(default_factory=LimitsSettings, description="limits of the gateway")
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings, description="automatic retraining")
    store: StoreSettings = Field(default_factory=StoreSettings, description="what is kept")
    snapshot: SnapshotSettings = Field(default_factory=SnapshotSettings, description="data sets")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="runs")
    adapters: AdaptersSettings = Field(default_factory=AdaptersSettings, description="old adapters")
    gate: GateSettings = Field(default_factory=GateSettings, description="thresholds before traffic")
    canary: CanarySettings = Field(default_factory=CanarySettings, description="rollouts")
    rank: RankSettings = Field(default_factory=RankSettings, description="what raters are shown")
    privacy: PrivacySettings = Field(default_factory=PrivacySettings, description="redaction")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        bases = sorted({engine.base for engine in self.engines.values()})
        for name, deployment in self.deployments.items():
            if deployment.base not in bases:
                raise ValueError(
                    f"deployments.{name}.base {deployment.base!r}: no engine serves it; accepted: {', '.join(bases)}"
                )
        if self.schedule.deployment not in self.deployments:
            raise ValueError(
                f"schedule.deployment {self.schedule.deployment!r}: no such deployment; "
                f"accepted: {', '.join(self.deployments)}"
            )
        return self

    @field_validator("deployments")
    @classmethod
    def _names(cls, value: dict[str, DeploymentSettings]) -> dict[str, DeploymentSettings]:
        if not value:
            raise ValueError("at least one deployment is needed")
        for name in value:
            if "@" in name or "/" in name or not name:
                raise ValueError(f"a deployment's name has no '@' or '/': {name!r}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line over environment over file over defaults."""
        path = settings_cls.model_config.get("toml_file")
        file = (_TomlFile(settings_cls, toml_file=path),) if path else ()
        return (init_settings, env_settings, *file)
