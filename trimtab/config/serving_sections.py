"""Settings of what answers: server, limits, engines and deployments."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from serve.engine.cards.gpu_memory import parse_memory
from serve.engine.spec import EngineSpec, Rank
from serve.metering.limits import Budget, Limits
from store.accounts import names
from store.errors import Invalid
from store.rollout import chat_template_kwargs
from trimtab.config.data_sections import Guidelines, Reasons
from trimtab.config.section import Section

DEFAULT_BASE = "smollm2-135m-instruct"
"""The base model that ships as a package and needs no download."""

# The value classes that the sections build; their defaults are written there alone.
_LIMITS = Limits()
_BUDGET = Budget()
_ENGINE = EngineSpec("", "", "")


class ServerSettings(Section):
    """Where the platform listens."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    drain_s: int = Field(5, ge=0, description="how long open requests may take to finish at a stop, seconds")
    log_format: Literal["text", "json"] = Field(
        "text", description="log lines for people, or JSON objects, one a line; both with the request's id"
    )
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
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit, tag or branch of the hub id in `model`; none means its main branch",
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
    gpu_memory: float | str | None = Field(
        _ENGINE.gpu_memory,
        description='memory of a card that an engine takes: a share (0.5) or a size ("12GB"); none sizes it by the '
        "model and `kv_cache_tokens`, and leaves room for training where it can",
    )
    kv_cache_tokens: int = Field(
        _ENGINE.kv_cache_tokens,
        ge=1,
        description="tokens that the key-value cache of an engine on a card holds, of all its chats together, unless "
        "`gpu_memory` is set; fewer where room is short",
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

    @field_validator("gpu_memory")
    @classmethod
    def _is_memory(cls, value: float | str | None) -> float | str | None:
        if value is not None:
            parse_memory(value)
        return value

    def specs(self, name: str, model: str) -> list[EngineSpec]:
        """Return one specification per replica of the engine `name`, which serves the weights `model`."""
        fields = self.model_dump(exclude={"model", "revision", "replicas"}, exclude_none=True)
        names = [name] if self.replicas == 1 else [f"{name}-{n}" for n in range(1, self.replicas + 1)]
        return [EngineSpec(name=replica, model=model, **fields) for replica in names]


class DeploymentSettings(Section):
    """A public model name; its first release is made from this."""

    base: str = Field(DEFAULT_BASE, description="base model of its first release")
    system_prompt: str | None = Field(None, description="system prompt of its first release")
    sampling: dict[str, Any] = Field(
        default_factory=lambda: {"temperature": 0.7, "top_p": 0.95, "max_tokens": 512},
        description="sampling defaults of its first release, and `chat_template_kwargs`, which it fixes",
    )
    reasons: Reasons | None = Field(
        None, description="reasons that raters may tick for its answers, in the place of `rank.reasons`"
    )
    guidelines: Guidelines | None = Field(
        None,
        description="what raters of its answers should know, as Markdown, in the place of `rank.guidelines`",
    )

    @field_validator("sampling")
    @classmethod
    def _template(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            chat_template_kwargs.check(value.get(chat_template_kwargs.KEY))
        except Invalid as error:
            raise ValueError(str(error)) from error
        return value
