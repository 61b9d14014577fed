"""The request for a fine-tuning job: OpenAI's fields, and what they are in a recipe."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from trimtab.api.base import Request

AUTO = "auto"
MAX_SEED = 2**31 - 1
MICRO_BATCH = 4
"""Rows of a micro-batch, at most; larger batches accumulate."""


def _auto_or(kind: type[int] | type[float], low: float, high: float) -> PlainValidator:
    """Return the check of a number from `low` to `high` or `auto`, which null means too."""
    word = "a whole number" if kind is int else "a number"
    expected = f"auto, or {word} from {low:g} to {high:g}"

    def check(value: Any) -> Any:
        if value is None or value == AUTO:
            return AUTO
        numbers = int if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, numbers) or not low <= value <= high:
            raise PydanticCustomError("auto_or_number", "Value should be {expected}", {"expected": expected})
        return kind(value)

    return PlainValidator(check)


class Hyperparameters(Request):
    """OpenAI's names of what a recipe has; `auto` leaves a value to the recipe."""

    n_epochs: Annotated[int | str, _auto_or(int, 1, 50)] = AUTO
    batch_size: Annotated[int | str, _auto_or(int, 1, 256)] = AUTO
    learning_rate_multiplier: Annotated[float | str, _auto_or(float, 0.001, 100)] = AUTO

    def params(self) -> dict[str, Any]:
        """Return the parameters of a recipe but its learning rate, which is a multiple of what `auto` chooses."""
        found: dict[str, Any] = {}
        if isinstance(self.n_epochs, int):
            found["num_train_epochs"] = float(self.n_epochs)
        if isinstance(self.batch_size, int):
            rows = max(n for n in range(1, MICRO_BATCH + 1) if self.batch_size % n == 0)
            found["per_device_train_batch_size"] = rows
            found["gradient_accumulation_steps"] = self.batch_size // rows
        return found


class DpoHyperparameters(Hyperparameters):
    """Those of `dpo`."""

    beta: Annotated[float | str, _auto_or(float, 0.001, 10)] = AUTO

    def params(self) -> dict[str, Any]:
        """Return the parameters of a recipe but its learning rate."""
        return super().params() | ({} if self.beta == AUTO else {"beta": self.beta})


class Supervised(Request):
    """Settings of `supervised`."""

    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Dpo(Request):
    """Settings of `dpo`."""

    hyperparameters: DpoHyperparameters = Field(default_factory=DpoHyperparameters)


class Method(Request):
    """How to train, with the settings of that way."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class JobRequest(Request):
    """Asks for a job: train `model`, a deployment or a release of one, on the rows of `training_file`."""

    model: StrictStr
    training_file: StrictStr
    validation_file: StrictStr | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[StrictStr, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[StrictStr, Field(max_length=64)],
                Annotated[StrictStr, Field(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def rate_multiplier(self) -> float | None:
        """How many times the rate that `auto` chooses, None for once."""
        value = self.chosen.learning_rate_multiplier
        return value if isinstance(value, float) else None

    @property
    def kind(self) -> Literal["supervised", "dpo"]:
        """The way to train; `supervised` where the request names none."""
        return self.method.type if self.method else "supervised"

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters of the way to train; those beside `method`, which is the older form, where it has none."""
        given = self.method and (self.method.dpo if self.kind == "dpo" else self.method.supervised)
        if given:
            return given.hyperparameters
        default = DpoHyperparameters if self.kind == "dpo" else Hyperparameters
        return self.hyperparameters or default()

    def seed_or_new(self) -> int:
        """Return the seed that was asked for, or one by chance."""
        return secrets.randbelow(MAX_SEED) if self.seed is None else self.seed
