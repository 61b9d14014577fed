"""Suites: TOML lists of measurements, and how long one takes."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from align.evaluation.chat_api import EvaluationError

BUILT_IN = ("quick", "default", "full")
FOLDER = Path(__file__).with_name("suites")

# Of SmolLM2-135M on two cores, eight requests at once; a larger model takes longer, a GPU less.
TOKENS_PER_S = 60.0
PROMPT_TOKENS_PER_S = 800.0
EXPECTED_ANSWER = 150
EXPECTED_PROMPT = 120


class SuiteError(EvaluationError):
    """A suite that is none of the built-in ones, or a file of your own that can't be read as one."""

    kind = "suite"


class Measurement(BaseModel):
    """One entry of a suite."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Heldout(Measurement):
    """Held-out rows, whose answers the engine scores."""

    kind: Literal["heldout"]
    rows: int = Field(64, ge=1)


class Answers(Measurement):
    """Generated answers of the release and of the one beside it.

    Prompts are of that many held-out clusters and of the neutral set's kinds; each is answered `seeds` times at the
    release's own sampling, and once at temperature 0 where `greedy`.
    """

    kind: Literal["answers"]
    heldout: int = Field(0, ge=0)
    general: int = Field(0, ge=0)
    harmless: int = Field(0, ge=0)
    safety: int = Field(0, ge=0)
    seeds: int = Field(1, ge=0, le=8)
    greedy: bool = False
    max_tokens: int = Field(512, ge=1)

    @property
    def prompts(self) -> int:
        """How many prompts are asked at most."""
        return self.heldout + self.general + self.harmless + self.safety

    @property
    def repeats(self) -> int:
        """How often each prompt is answered by each release."""
        return self.seeds + self.greedy


class Texts(Measurement):
    """Texts of the neutral set, on which perplexity and KL divergence are measured."""

    kind: Literal["texts"]
    texts: int = Field(24, ge=2)


AnyMeasurement = Annotated[Heldout | Answers | Texts, Field(discriminator="kind")]


class Suite(BaseModel):
    """A list of measurements."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measurements: tuple[AnyMeasurement, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Estimate:
    """What a suite asks for at most, and about how long that takes."""

    requests: int
    tokens: int
    seconds: float


def load_suite(name: str) -> Suite:
    """Return a built-in suite by its name, or one of your own by the path of its TOML file.

    Raises `SuiteError` that names the field and what is accepted.
    """
    if name not in BUILT_IN and not name.endswith(".toml"):
        raise SuiteError(
            f"suite = {name!r}: accepted is one of {', '.join(BUILT_IN)}, or the path of a .toml file"
        )
    path = FOLDER / f"{name}.toml" if name in BUILT_IN else Path(name)
    try:
        return Suite.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SuiteError(f"suite {name}: cannot be read: {error}") from error
    except ValidationError as error:
        raise SuiteError(f"suite {name}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    found: Any = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"] if part not in ("heldout", "answers", "texts"))
    return f"{where}: {found['msg']}"


def estimate(suite: Suite, releases: int, sides: int, rows: int, answers_a_row: int) -> Estimate:
    """Count what a suite asks of `releases` releases, of which `sides` generate answers, over `rows` held-out rows."""
    requests = tokens = prompt_tokens = 0
    for part in suite.measurements:
        if isinstance(part, Heldout):
            count = min(part.rows, rows) * releases * (1 + answers_a_row)
            prompt_tokens += count * EXPECTED_PROMPT
        elif isinstance(part, Answers):
            count = part.prompts * part.repeats * sides
            tokens += count * min(part.max_tokens, EXPECTED_ANSWER)
            prompt_tokens += count * EXPECTED_PROMPT
        else:
            count = (part.texts + 1) * releases
            prompt_tokens += count * EXPECTED_PROMPT
        requests += count
    return Estimate(requests, tokens, tokens / TOKENS_PER_S + prompt_tokens / PROMPT_TOKENS_PER_S)
