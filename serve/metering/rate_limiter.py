"""Who may begin a request: rates and budgets against what users and keys have used. Knows no HTTP and no engine.

Budgets by minute are kept in memory as token buckets (D. E. Comer's form of the leaky bucket): a bucket holds one
minute's worth and refills evenly, so a burst of a minute's worth is allowed and no more. Budgets by calendar day and
month (`serve.metering.quota`) are held against the counter, which outlives the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from serve.errors import RequestError, TooManyRequests
from serve.metering import quota
from serve.metering.limits import Budget, Holder, Limits
from serve.metering.usage_counter import UsageCounter, Used


class _Bucket:
    __slots__ = ("at", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level, self.at = level, at


class _Account:
    """What one name may use, looked up once."""

    __slots__ = ("at_once", "quotas", "requests", "tokens")

    def __init__(self, budget: Budget) -> None:
        self.at_once = budget.max_concurrent
        self.requests, self.tokens = budget.requests_per_minute, budget.tokens_per_minute
        self.quotas = quota.quotas(budget)


class RateLimiter:
    """Counts what each principal uses against `Limits`. Belongs to one event loop.

    `clock` gives seconds that never jump; days and months go by the clock of `counter`, where all that was answered is
    entered whether or not a budget is set.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float] = time.monotonic, counter: UsageCounter | None = None
    ) -> None:
        self.limits = limits
        self.counter = counter or UsageCounter()
        self.outstanding = 0
        self._clock = clock
        self._everybody = _Account(limits)
        self._accounts = {name: _Account(limits.of(name)) for name in limits.budgets}
        self._running: dict[str, int] = {}
        self._requests: dict[str, _Bucket] = {}
        self._tokens: dict[str, _Bucket] = {}

    def enter(self, who: Sequence[Holder]) -> None:
        """Count a request as begun, of everybody who pays for it.

        Raises `TooManyRequests` (429; `InsufficientQuota` for a day's or month's budget), counting nothing, or
        `RequestError` (503) when the whole platform is full.
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
            account = self._accounts.get(one.name, self._everybody)
            running = self._running.get(one.id, 0)
            if account.quotas:
                quota.require(one, account.quotas, self.counter, running)
            if account.at_once is not None and running >= account.at_once:
                raise TooManyRequests(
                    f"{one.name} has {running} requests under way; accepted: up to {account.at_once} at once."
                )
            if account.tokens is not None:
                self._need(self._tokens, one, account.tokens, "tokens", 0.0)
            if account.requests is not None:
                paying.append(self._need(self._requests, one, account.requests, "requests", 1.0))
        for bucket in paying:
            bucket.level -= 1.0
        for one in who:
            self._running[one.id] = self._running.get(one.id, 0) + 1
        self.outstanding += 1

    def leave(self, who: Sequence[Holder], used: Used | None = None) -> None:
        """Count a request as ended, with what it used; None where no answer began."""
        self.outstanding -= 1
        for one in who:
            left = self._running.get(one.id, 1) - 1
            if left:
                self._running[one.id] = left
            else:
                self._running.pop(one.id, None)
            size = self._accounts.get(one.name, self._everybody).tokens
            if size is not None and used is not None:
                self._bucket(self._tokens, one.id, size).level -= used.tokens
        if used is not None:
            self.counter.add(who, used)

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
