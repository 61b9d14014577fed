"""What a caller may ask for: sizes, rates and budgets. Knows no HTTP and no engine.

Rates and budgets are kept in memory by principal, as token buckets (D. E. Comer's form of the leaky bucket): a
bucket holds one minute's worth and refills evenly, so a burst of a minute's worth is allowed and no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from serve.errors import RequestError, TooManyRequests


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the gateway; None means no limit.

    `max_outstanding` bounds the requests under way in all, `max_concurrent` those of one principal.
    Per principal and minute: `requests_per_minute`, and `tokens_per_minute` (prompt and completion, counted
    when an answer ends). `max_tokens` bounds what a request may ask for. `first_byte_timeout_s` bounds the
    silence before an answer begins, in seconds.
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

    def enter(self, who: str) -> None:
        """Count a request as begun; raises `TooManyRequests` (429) or, for the whole platform, 503."""
        limits = self.limits
        if self.outstanding >= limits.max_outstanding:
            raise RequestError(
                f"The platform has {self.outstanding} requests under way, as many as it takes; try again soon.",
                status=503,
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        running = self._running.get(who, 0)
        if limits.max_concurrent is not None and running >= limits.max_concurrent:
            raise TooManyRequests(
                f"{who} has {running} requests under way; accepted: up to {limits.max_concurrent} at once."
            )
        if limits.tokens_per_minute is not None:
            self._need(self._tokens, who, limits.tokens_per_minute, "tokens", 0.0)
        if limits.requests_per_minute is not None:
            self._need(self._requests, who, limits.requests_per_minute, "requests", 1.0)
        self._running[who] = running + 1
        self.outstanding += 1

    def leave(self, who: str, tokens: int = 0) -> None:
        """Count a request as ended, with the tokens that it used."""
        self.outstanding -= 1
        left = self._running.get(who, 1) - 1
        if left:
            self._running[who] = left
        else:
            self._running.pop(who, None)
        if self.limits.tokens_per_minute is not None and tokens:
            self._bucket(self._tokens, who, self.limits.tokens_per_minute).level -= tokens

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

    def _need(self, buckets: dict[str, _Bucket], who: str, size: float, what: str, take: float) -> None:
        bucket = self._bucket(buckets, who, size)
        if bucket.level < max(take, 1e-9):
            wait = (max(take, 1.0) - bucket.level) * 60.0 / size
            raise TooManyRequests(
                f"{who} has used its {size:g} {what} a minute; try again in {max(1, round(wait))} s.",
                int(wait) + 1,
            )
        bucket.level -= take
