"""Settings of what people say: ranking, privacy and the store."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from store.accounts import names
from store.accounts.sharing import DEFAULT, Share
from store.db.database import MEMORY
from trimtab.config.section import Section

Shown = Literal["answers", "whole"]
Reason = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]
"""A reason that raters tick."""
Reasons = Annotated[tuple[Reason, ...], Field(max_length=20)]
Guidelines = Annotated[str, Field(max_length=100_000)]


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

    uniform: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of drawn prompts that are a uniform sample of what people asked; only votes on these decide "
        "canaries, so all are while a canary is tested",
    )
    releases: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of drawn prompts that two releases answer which may each be the best one; the rest are answered "
        "by stable twice",
    )

    show: Shown = Field(
        "answers",
        description="what of two responses is compared: answers (final answers and tool calls, thinking is folded) or whole "
        "(thinking is open, too)",
    )

    answers: int = Field(
        2,
        ge=2,
        le=4,
        description="how many answers are sampled for a comparison where nothing says it; more than two are put in an "
        "order, which makes a pair of each two that are not tied",
    )
    reasons: Reasons = Field(
        ("accurate", "clear", "concise", "follows instructions", "friendly", "well formatted"),
        description="reasons that raters may tick for each answer; `deployments.NAME.reasons` has its own",
    )
    skip_reasons: Reasons = Field(
        (
            "not my language",
            "beyond what I know",
            "the prompt makes no sense",
            "too long",
            "private or upsetting",
        ),
        description="reasons that raters are offered for skipping a comparison",
    )
    guidelines: Guidelines = Field(
        "",
        description="what raters should know, as Markdown; one key away in Rank. `deployments.NAME.guidelines` has its own",
    )
    slight_weight: float = Field(
        0.5,
        gt=0,
        le=1,
        description='weight in training of a pair whose vote says "slightly better"; 1 makes no difference between '
        "slightly and clearly",
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> RankSettings:
        if self.uniform + self.releases > 1:
            raise ValueError(
                f"uniform + releases is {self.uniform + self.releases:g}; accepted: at most 1 together"
            )
        return self


class PrivacySettings(Section):
    """What is done with people's words, and what is taken out of them before they are stored."""

    share: Share = Field(
        DEFAULT,
        description="what may be done with conversations of people who made no choice in Chat: none (nothing), show "
        "(raters may see them) or train (raters may see them, and models may learn from them)",
    )

    undo_minutes: float = Field(
        10.0,
        ge=0,
        le=43_200,
        description="how long a conversation that its owner deleted can be restored, minutes; then it is erased",
    )
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
