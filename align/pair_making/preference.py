"""What rules prefer: answers that follow more of them, and of two that follow as many the shorter or longer one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from align.errors import RecipeError
from align.evaluation.rules import check_rule, share_followed, words

MIN_LENGTH_GAP = 0.1
"""Min difference in words, as a share of the longer answer, from which one of two answers counts as shorter."""


class Score(NamedTuple):
    """How an answer does: the share of the rules that it follows, then its length as it is preferred (more is better)."""

    followed: float
    length: int


CUT = Score(-1.0, 0)
"""The score of an answer that was cut, where these count: below that of any whole one."""


class Preference(BaseModel):
    """Rules of `align.evaluation.rules`, and which length is preferred; at least one of both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[dict[str, Any], ...] = ()
    prefer: Literal["shorter", "longer"] | None = None

    @model_validator(mode="after")
    def _rules_are_known(self) -> Preference:
        if not self.rules and self.prefer is None:
            raise ValueError("rules or prefer must be given")
        for rule in self.rules:
            check_rule(rule)
        return self

    @property
    def hash(self) -> str:
        """The first 12 hex digits of the SHA-256 of what it says."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def score(self, text: str) -> Score:
        """Return how an answer does."""
        followed = share_followed(text, self.rules) if self.rules else 0.0
        length = len(words(text)) * {"shorter": -1, "longer": 1, None: 0}[self.prefer]
        return Score(followed, length)


def read_preference(table: Mapping[str, Any], where: str = "rules") -> Preference:
    """Check what a rules file holds. Raises `RecipeError` that names the field and what is accepted."""
    try:
        return Preference.model_validate(dict(table))
    except ValidationError as error:
        found: Any = error.errors()[0]
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, RecipeError):
            raise RecipeError(f"{where}: {cause.field}", cause.value, cause.accepted) from error
        field = ".".join(str(part) for part in (where, *found["loc"]))
        accepted = "a table with rules (a list of {rule, value}) and prefer (shorter or longer), at least one of both"
        raise RecipeError(field, found["input"], accepted) from error


def is_better(one: Score, other: Score) -> bool:
    """Return whether an answer does clearly better than another."""
    if one.followed != other.followed:
        return one.followed > other.followed
    gap = one.length - other.length
    return gap > 0 and gap >= MIN_LENGTH_GAP * max(abs(one.length), abs(other.length))
