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
from serve.engine.spec import EngineSpec, Rank
from serve.gateway.canary_monitor import CanaryPolicy
from serve.metering.limits import Budget, Limits
from store.accounts import names
from store.datasets import snapshot_settings
from store.db.database import MEMORY
from store.rollout.runs import Rollout
from trimtab.config.paths import DEFAULT_DATA

DEFAULT_BASE = "smollm2-135m-instruct"
"""The base model that ships as a package and needs no download."""

# The value classes that sections build; their defaults are those of the settings, and are written there alone.
_LIMITS, _BUDGET, _ALARM, _ENGINE = Limits(), Budget(), CanaryPolicy(), EngineSpec("", "", "")
_SNAPSHOT = snapshot_settings.SnapshotSettings()


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

    max_concurrent: int | None = Field(
        _BUDGET.max_concurrent, ge=1, description="requests in flight of one user or key"
    )
    requests_per_minute: float | None = Field(
        _BUDGET.requests_per_minute, gt=0, description="requests per minute of one user or key"
    )
    tokens_per_minute: float | None = Field(
        _BUDGET.tokens_per_minute,
        gt=0,
        description="prompt and completion tokens per minute of one user or key",
    )
    requests_per_day: int | None = Field(
        _BUDGET.requests_per_day,
        ge=1,
        description="answered requests per calendar day (UTC) of one user or key",
    )
    tokens_per_day: int | None = Field(
        _BUDGET.tokens_per_day,
        ge=1,
        description="prompt and completion tokens per calendar day (UTC) of one user or key",
    )
    requests_per_month: int | None = Field(
        _BUDGET.requests_per_month,
        ge=1,
        description="answered requests per calendar month (UTC) of one user or key",
    )
    tokens_per_month: int | None = Field(
        _BUDGET.tokens_per_month,
        ge=1,
        description="prompt and completion tokens per calendar month (UTC) of one user or key",
    )


class LimitsSettings(BudgetSettings):
    """What a caller of the gateway may ask for, and what each user and key may use; none is no limit."""

    max_body_bytes: int = Field(
        _LIMITS.max_body_bytes, ge=1_000, description="largest body of a request to /v1, bytes"
    )
    max_messages: int = Field(_LIMITS.max_messages, ge=1, description="messages in a request")
    max_tokens: int | None = Field(_LIMITS.max_tokens, ge=1, description="tokens that a request may ask for")
    max_n: int = Field(_LIMITS.max_n, ge=1, description="answers that a request may ask for")
    max_outstanding: int = Field(_LIMITS.max_outstanding, ge=1, description="total requests in flight")
    first_byte_timeout_s: float | None = Field(
        _LIMITS.first_byte_timeout_s,
        gt=0,
        description="longest silence before an answer begins, seconds",
    )
    budgets: dict[Annotated[str, AfterValidator(names.spell)], BudgetSettings] = Field(
        default_factory=dict, description="budgets by the name of a user or a key"
    )

    def build(self) -> Limits:
        """Return the limits of the gateway."""
        fields = self.model_dump(exclude={"budgets"})
        return Limits(
            **fields, budgets={name: Budget(**own.model_dump()) for name, own in self.budgets.items()}
        )


class EngineSettings(Section):
    """One vLLM engine: a base model, served by a process of ours or at a URL."""

    base: str = Field(description="public name of the base model")
    model: str | None = Field(
        None, description="Hugging Face directory or hub id; none means the prepared directory of that base"
    )
    url: str | None = Field(
        _ENGINE.url,
        description="an engine that runs elsewhere; none means that one is started here",
    )
    api_key: str | None = Field(_ENGINE.api_key, description="key of the engine at `url`")
    replicas: int = Field(1, ge=1, le=64, description="processes of this engine")
    device: Literal["auto", "cpu", "cuda"] = Field(
        _ENGINE.device, description="where it runs; auto takes a GPU if there is one"
    )
    kv_cache_memory_bytes: str = Field(
        _ENGINE.kv_cache_memory_bytes,
        pattern=r"^\d+[KMG]?$",
        description="key-value cache of an engine on the CPU",
    )
    threads: int | None = Field(
        _ENGINE.threads, ge=1, description="CPU threads of an engine; none takes all cores"
    )
    nice: int | None = Field(
        _ENGINE.nice,
        ge=0,
        le=19,
        description="niceness of an engine; none means 10 on the CPU, behind the gateway, and 0 on a GPU. 0 takes an "
        "equal share of the cores where other programs keep them busy",
    )
    start_timeout_s: float = Field(
        _ENGINE.start_timeout_s,
        gt=0,
        description="time in which an engine must serve, seconds; while it computes, busy_timeout_s more",
    )
    probe_interval_s: float = Field(
        _ENGINE.probe_interval_s, gt=0, description="time between probes of an engine, seconds"
    )
    probe_timeout_s: float = Field(
        _ENGINE.probe_timeout_s,
        gt=0,
        description="longest time without a token, a finished step or computing until an engine is restarted, seconds",
    )
    busy_timeout_s: float = Field(
        _ENGINE.busy_timeout_s,
        gt=0,
        description="longest time of computing on one step until an engine is restarted, seconds",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="vLLM arguments, by their own names")
    max_loras: int = Field(_ENGINE.max_loras, ge=1, le=64, description="adapters in one batch")
    max_cpu_loras: int = Field(_ENGINE.max_cpu_loras, ge=1, le=1024, description="adapters kept loaded")
    max_lora_rank: Rank = Field(_ENGINE.max_lora_rank, description="largest LoRA rank")

    def specs(self, name: str, model: str) -> list[EngineSpec]:
        """Return one specification per replica of the engine `name`, which serves the weights `model`."""
        fields = self.model_dump(exclude={"model", "replicas"}, exclude_none=True)
        names = [name] if self.replicas == 1 else [f"{name}-{n}" for n in range(1, self.replicas + 1)]
        return [EngineSpec(name=replica, model=model, **fields) for replica in names]


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
    rollout: Rollout = Field("canary", description="how far a run goes by itself")
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
        Literal["vote", "rewrite", "like", "import"], Annotated[float, Field(ge=0, allow_inf_nan=False)]
    ] = Field(
        dict(snapshot_settings.MIX),
        description="rows of a source for each row of the sources with the highest number",
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

    suite: str = Field(
        "default",
        description="what a run's release is measured by: quick, default, full, or the path of a .toml file of your own "
        "(docs/evaluation.md)",
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

    @field_validator("suite")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        if value not in ("quick", "default", "full"):
            from align.evaluation.suite_file import (  # the command line starts without it
                SuiteError,
                load_suite,
            )

            try:
                load_suite(value)
            except SuiteError as error:
                raise ValueError(str(error)) from error
        return value

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
        _ALARM.first_token_s,
        gt=0,
        description="longest wait for its first token before stable answers, seconds",
    )
    max_failed: float = Field(
        _ALARM.max_failed,
        ge=0,
        le=1,
        description="share of failed requests above which it is rolled back, if it also fails more often than stable",
    )
    min_requests: int = Field(
        _ALARM.min_requests,
        ge=1,
        description="requests that this share is judged on at least",
    )
    window_s: float = Field(_ALARM.window_s, gt=0, description="how far back it looks, seconds")
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

    def alarm_policy(self) -> CanaryPolicy:
        """Return when a canary is rolled back for failing."""
        return CanaryPolicy(
            first_token_s=self.first_token_s,
            max_failed=self.max_failed,
            min_requests=self.min_requests,
            window_s=self.window_s,
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
