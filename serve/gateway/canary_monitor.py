"""The watch on canaries: counts how their answers end, and says when one must go.

A canary's failed request is answered by the stable release, so people do not see it; the alarm is how the platform
does. Knows no store: the caller withdraws the canary when `on_alarm` is called.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serve.router import Target

log = logging.getLogger(__name__)
OnAlarm = Callable[[Target, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CanaryPolicy:
    """When a canary is given up.

    A request falls back to stable when the canary fails before its first token, or in a stream gives none within
    `first_token_s` seconds (None: it may take any time). The alarm rings when the canary fails more often than
    stable, by bets that ring for one that does not with probability `alpha` at most in its whole life, and when of
    its last requests within `window_s` seconds, at least `min_requests` in number, more than the share
    `max_failed` (0 to 1) failed.
    """

    first_token_s: float | None = None
    max_failed: float = 0.1
    min_requests: int = 20
    window_s: float = 600.0
    alpha: float = 0.01


BETS = tuple(n / 20 for n in range(1, 20, 2))


class _Comparison:
    """Bets that a canary fails more often than stable does, one after each of the canary's requests.

    The value of a block is (1 + the canary's failure - stable's share of failures since the block before) / 2, whose
    mean is at most 1/2 where the canary fails no more often; the wealth is as in a canary's test by votes
    (arXiv:2010.09686). Without a request of stable since, its last share counts; without any, none failed.
    """

    def __init__(self) -> None:
        self._bets = [1.0] * len(BETS)
        self._stable = 0.0
        self._since: list[int] = [0, 0]

    @property
    def wealth(self) -> float:
        """The evidence so far that the canary fails more often."""
        return sum(self._bets) / len(self._bets)

    def note_stable(self, ok: bool) -> None:
        """Count a request of the stable release."""
        self._since[0] += not ok
        self._since[1] += 1

    def note_canary(self, ok: bool) -> None:
        """Count a request of the canary, and bet."""
        failed, total = self._since
        if total:
            self._stable, self._since = failed / total, [0, 0]
        excess = (not ok) - self._stable
        self._bets = [
            min(wealth * (1 + bet * excess), 1e300) for wealth, bet in zip(self._bets, BETS, strict=True)
        ]


class CanaryMonitor:
    """Keeps how requests of each canary end beside those of its deployment's stable release.

    Calls `on_alarm(target, why)` once for a canary that is bad.
    """

    def __init__(
        self,
        policy: CanaryPolicy | None = None,
        on_alarm: OnAlarm | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy or CanaryPolicy()
        self.on_alarm = on_alarm
        self._clock = clock
        self._outcomes: dict[str, deque[tuple[float, bool]]] = {}
        self._compared: dict[str, tuple[str, _Comparison]] = {}  # by deployment: its canary
        self._rung: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, target: Target, ok: bool) -> None:
        """Note how one request ended: of a canary, or of the stable release beside one."""
        deployment = target.deployment or ""
        if target.lane == "stable" and deployment in self._compared:
            self._compared[deployment][1].note_stable(ok)
        if target.lane != "canary" or target.release in self._rung:
            return
        compared = self._comparison(deployment, target.release)
        compared.note_canary(ok)
        now = self._clock()
        outcomes = self._outcomes.setdefault(target.release, deque())
        outcomes.append((now, ok))
        while outcomes and outcomes[0][0] < now - self.policy.window_s:
            outcomes.popleft()
        failed = sum(not ok for _, ok in outcomes)
        if (
            len(outcomes) >= self.policy.min_requests
            and failed / len(outcomes) > self.policy.max_failed
            and compared.wealth >= 1 / self.policy.alpha
        ):
            self._ring(
                target, f"{failed} of its last {len(outcomes)} requests failed, more often than stable's"
            )

    def _comparison(self, deployment: str, release: str) -> _Comparison:
        """Return the canary's bets; another canary begins anew."""
        known = self._compared.get(deployment)
        if known is None or known[0] != release:
            known = self._compared[deployment] = (release, _Comparison())
        return known[1]

    def _ring(self, target: Target, why: str) -> None:
        self._rung.add(target.release)
        self._outcomes.pop(target.release, None)
        self._compared.pop(target.deployment or "", None)
        log.error("canary %s: %s", target.release, why)
        if self.on_alarm is not None:
            task = asyncio.ensure_future(self.on_alarm(target, why))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
