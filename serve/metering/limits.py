"""What a caller may ask for: sizes, rates and budgets, as values. Knows no HTTP and no engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal


def max_answer_tokens(sampling: Mapping[str, Any], *limits: int | None) -> int | None:
    """Return the lowest of a release's own limit per answer and `limits`; None where there is none."""
    given = (sampling.get("max_tokens"), *limits)
    return min((int(limit) for limit in given if limit), default=None)


@dataclass(frozen=True, slots=True)
class Budget:
    """What one user or key may use; None is no limit, in a budget of one's own what `Limits` says of everybody.

    Requests at once; requests and tokens (prompt and completion, counted when an answer ends) by minute, and by
    calendar day and month in UTC.
    """

    max_concurrent: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    requests_per_month: int | None = None
    tokens_per_month: int | None = None


USER, KEY = "user ", "key-"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who pays for a request: a user or a key, told apart by `id`; `name` is what budgets and messages call it.

    An id is `user NAME`, a key's id, or the name of a caller who is neither, such as the operator of this machine.
    `since` is when the request began, in seconds of `time.monotonic`.
    """

    id: str
    name: str
    since: float = field(default_factory=time.monotonic, compare=False)

    @property
    def kind(self) -> Literal["user", "key", "other"]:
        """What it is."""
        return "user" if self.id.startswith(USER) else "key" if self.id.startswith(KEY) else "other"


@dataclass(frozen=True, slots=True)
class Limits(Budget):
    """Limits of the gateway, with the budget of each user and key; None means no limit.

    `max_outstanding` bounds the requests under way in all. `budgets` sets the budget of a user or a key by name, where
    it differs. `max_tokens` bounds what a request may ask for. `first_byte_timeout_s` bounds the silence before an
    answer begins, in seconds.
    """

    max_body_bytes: int = 4 * 2**20
    max_messages: int = 1000
    max_tokens: int | None = None
    max_n: int = 16
    max_outstanding: int = 2048
    first_byte_timeout_s: float | None = 600.0
    budgets: Mapping[str, Budget] = field(default_factory=dict)

    def of(self, name: str) -> Budget:
        """Return the whole budget of the user or key `name`."""
        own = self.budgets.get(name, self)
        return Budget(
            **{
                part.name: getattr(self, part.name)
                if getattr(own, part.name) is None
                else getattr(own, part.name)
                for part in fields(Budget)
            }
        )
