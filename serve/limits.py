"""What a caller may ask for: sizes, rates and budgets. Knows no HTTP and no engine.

Rates and budgets are kept in memory by user and by key, as token buckets (D. E. Comer's form of the leaky bucket): a
bucket holds one minute's worth and refills evenly, so a burst of a minute's worth is allowed and no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serve.errors import RequestError, TooManyRequests


@dataclass(frozen=True, slots=True)
class Budget:
    """What one user or key may use; None means what `Limits` says of everybody."""

    max_concurrent: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who pays for a request: a user or a key, told apart by `id`; `name` is what budgets and messages call it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the gateway; None means no limit.

    `max_outstanding` bounds the requests under way in all, `max_concurrent` those of one user or key. By user and key
    and minute: `requests_per_minute`, and `tokens_per_minute` (prompt and completion, counted when an answer ends).
    `budgets` sets these three by the name of a user or a key. `max_tokens` bounds what a request may ask for.
    `first_byte_timeout_s` bounds the silence before an answer begins, in seconds.
    """

    max_body_bytes: int = 4 * 2**20
    max_messages: int = 1000
    max_tokens: int | None = None
    max_n: int = 16
    max_outstanding: int = 2048
    max_concurrent: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    first_byte_timeout_s: float | None = 600.0
    budgets: Mapping[str, Budget] = field(default_factory=dict)

    def of(self, name: str) -> tuple[int | None, float | None, float | None]:
        """Return requests at once, requests a minute and tokens a minute of the user or key `name`."""
        own = self.budgets.get(name)
        if own is None:
            return self.max_concurrent, self.requests_per_minute, self.tokens_per_minute
        return (
            self.max_concurrent if own.max_concurrent is None else own.max_concurrent,
            self.requests_per_minute if own.requests_per_minute is None else own.requests_per_minute,
            self.tokens_per_minute if own.tokens_per_minute is None else own.tokens_per_minute,
        )


class _Bucket:
    __slots__ = ("at", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level, self.at = level, at


class Meter:
    """Counts what each principal uses against `Limits`. Belongs to one event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.outstanding = 0
        self._clock = clock
        self._running: dict[str, int] = {}
        self._requests: dict[str, _Bucket] = {}
        self._tokens: dict[str, _Bucket] = {}

    def enter(self, who: Sequence[Holder]) -> None:
        """Count a request as begun, of everybody who pays for it.

        Raises `TooManyRequests` (429), counting nothing, or `RequestError` (503) when the whole platform is full.
        """
        if self.outstanding >= self.limits.max_outstanding:
            raise RequestError(
                f"The platform has {self.outstanding} requests under way, as many as it takes; try again soon.",
                status=503,
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        paying: list[_Bucket] = []
        for one in who:
            at_once, requests, tokens = self.limits.of(one.name)
            running = self._running.get(one.id, 0)
            if at_once is not None and running >= at_once:
                raise TooManyRequests(
                    f"{one.name} has {running} requests under way; accepted: up to {at_once} at once."
                )
            if tokens is not None:
                self._need(self._tokens, one, tokens, "tokens", 0.0)
            if requests is not None:
                paying.append(self._need(self._requests, one, requests, "requests", 1.0))
        for bucket in paying:
            bucket.level -= 1.0
        for one in who:
            self._running[one.id] = self._running.get(one.id, 0) + 1
        self.outstanding += 1

    def leave(self, who: Sequence[Holder], tokens: int = 0) -> None:
        """Count a request as ended, with the tokens that it used."""
        self.outstanding -= 1
        for one in who:
            left = self._running.get(one.id, 1) - 1
            if left:
                self._running[one.id] = left
            else:
                self._running.pop(one.id, None)
            size = self.limits.of(one.name)[2]
            if size is not None and tokens:
                self._bucket(self._tokens, one.id, size).level -= tokens

    def _bucket(self, buckets: dict[str, _Bucket], who: str, size: float) -> _Bucket:
        now = self._clock()
        bucket = buckets.get(who)
        if bucket is None:
            if len(buckets) > 10_000:
                buckets.clear()
            bucket = buckets[who] = _Bucket(size, now)
        bucket.level = min(size, bucket.level + max(0.0, now - bucket.at) * size / 60.0)
        bucket.at = now
        return bucket

    def _need(self, buckets: dict[str, _Bucket], who: Holder, size: float, what: str, take: float) -> _Bucket:
        bucket = self._bucket(buckets, who.id, size)
        if bucket.level < max(take, 1e-9):
            wait = (max(take, 1.0) - bucket.level) * 60.0 / size
            raise TooManyRequests(
                f"{who.name} has used its {size:g} {what} a minute; try again in {max(1, round(wait))} s.",
                int(wait) + 1,
            )
        return bucket
