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
    `first_token_s` seconds (None: it may take any time). The alarm rings when, of the canary's last requests
    within `window_s` seconds, at least `min_requests` in number, more than the share `max_failed` (0 to 1)
    failed.
    """

    first_token_s: float | None = None
    max_failed: float = 0.1
    min_requests: int = 20
    window_s: float = 600.0


class CanaryWatch:
    """Keeps the outcomes of each canary release and calls `on_alarm(target, why)` once for one that is bad."""

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
        self._rung: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, target: Target, ok: bool) -> None:
        """Note how one request of a canary ended; requests of other lanes are not counted."""
        if target.lane != "canary" or target.release in self._rung:
            return
        now = self._clock()
        outcomes = self._outcomes.setdefault(target.release, deque())
        outcomes.append((now, ok))
        while outcomes and outcomes[0][0] < now - self.policy.window_s:
            outcomes.popleft()
        failed = sum(not ok for _, ok in outcomes)
        if len(outcomes) >= self.policy.min_requests and failed / len(outcomes) > self.policy.max_failed:
            self._ring(target, f"{failed} of its last {len(outcomes)} requests failed")

    def _ring(self, target: Target, why: str) -> None:
        self._rung.add(target.release)
        self._outcomes.pop(target.release, None)
        log.error("canary %s: %s", target.release, why)
        if self.on_alarm is not None:
            task = asyncio.ensure_future(self.on_alarm(target, why))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
