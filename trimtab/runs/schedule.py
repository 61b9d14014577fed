"""When retraining starts by itself. `due` decides, over values alone; `Scheduler` asks it at intervals."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cronsim import CronSim

from common.time_windows import is_open, parse_window, time_zone
from common.training_methods import Method
from trimtab.config.training_sections import ScheduleSettings
from trimtab.runs.schedule_moments import ScheduleMoments

log = logging.getLogger(__name__)

ROWS: Mapping[Method, str] = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}
"""What a method learns from: the rows that its schedules count."""


def next_time(settings: ScheduleSettings, after: datetime) -> datetime | None:
    """Return the first moment past `after` that the cron expression names, in UTC; None without one."""
    if not settings.cron:
        return None
    return next(CronSim(settings.cron, after.astimezone(time_zone(settings.timezone)))).astimezone(UTC)


def jitter(name: str, settings: ScheduleSettings, moment: datetime) -> timedelta:
    """Return how long after a cron moment the schedule `name` starts: always the same for the same moment."""
    digest = hashlib.sha256(f"{name} {moment.isoformat()}".encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8]) % (60 * settings.jitter_minutes or 1))


def may_start(settings: ScheduleSettings, moment: datetime) -> bool:
    """Return whether a moment is within the schedule's windows."""
    return is_open([*map(parse_window, settings.windows)], time_zone(settings.timezone), moment)


def due(
    settings: ScheduleSettings,
    *,
    now: datetime,
    last_checked: datetime,
    new_rows: int,
    active: bool,
    name: str = "schedule",
) -> str | None:
    """Return why a run should start now, or None.

    `last_checked` is up to when cron moments were looked at, so that several that passed meanwhile are one run. `new_rows`
    counts the rows of the schedule's method since the deployment's last snapshot for it; a cron moment without new rows
    starts nothing, and nothing starts while a run of the deployment is active or outside the windows.
    """
    if active or not may_start(settings, now):
        return None
    if settings.every_pairs is not None and new_rows >= settings.every_pairs:
        return f"{new_rows} new {ROWS[settings.method]} (every {settings.every_pairs})"
    moment = next_time(settings, last_checked)
    if moment is not None and moment + jitter(name, settings, moment) <= now and new_rows > 0:
        return f"cron {settings.cron!r} at {moment.isoformat()}"
    return None


class Runs(Protocol):
    """What the scheduler counts and starts, for one schedule."""

    async def new_rows(self) -> int:
        """Count the rows of the method since the last snapshot."""

    async def active(self) -> bool:
        """Return whether a run of the deployment is under way."""

    async def start(self, reason: str) -> None:
        """Start a run."""


class Schedule:
    """One schedule: its settings, its runs, and up to when and to how many rows they were looked at.

    `moments` keeps the time up to which cron moments were looked at, so that one that passed while the platform was down
    is due once when it is back.
    """

    def __init__(
        self, name: str, settings: ScheduleSettings, runs: Runs, moments: ScheduleMoments | None = None
    ) -> None:
        self.name, self.settings, self.runs = name, settings, runs
        self._moments = moments or ScheduleMoments(None)
        self._last_checked = self._moments.read(name) if settings.cron else datetime.now(UTC)
        self._tried = 0

    async def start_if_due(self) -> None:
        """Start a run if one is due; a cron moment that passes during a run or outside the windows is due after it."""
        now = datetime.now(UTC)
        new_rows = await self.runs.new_rows()
        # rows that a run has failed on already must not start the next one at once
        self._tried = min(self._tried, new_rows)
        active = await self.runs.active()
        reason = due(
            self.settings,
            now=now,
            last_checked=self._last_checked,
            new_rows=new_rows - self._tried,
            active=active,
            name=self.name,
        )
        if not active and may_start(self.settings, now):
            await self._look_past(now)
        if reason:
            log.info("run of %s: %s", self.name, reason)
            self._tried = new_rows
            await self.runs.start(reason)

    async def _look_past(self, now: datetime) -> None:
        """Note that the cron moments up to now were looked at, unless one waits for its jitter."""
        moment = next_time(self.settings, self._last_checked)
        if moment is None or moment > now:
            return  # nothing has passed: what is kept holds
        if moment + jitter(self.name, self.settings, moment) <= now:
            self._last_checked = now
            await asyncio.to_thread(self._moments.write, self.name, now)


class Scheduler:
    """Starts runs when they are due. Lives in the platform's event loop; `run` ends when cancelled."""

    def __init__(self, schedules: Iterable[Schedule], interval_s: float = 5.0) -> None:
        self.schedules = tuple(schedules)
        self._interval_s = interval_s

    async def run(self) -> None:
        """Look at each enabled schedule every few seconds; one failure ends neither it nor the others."""
        enabled = [schedule for schedule in self.schedules if schedule.settings.enabled]
        while enabled:
            await asyncio.sleep(self._interval_s)
            for schedule in enabled:
                try:
                    await schedule.start_if_due()
                except Exception:
                    log.exception("%s could not start a run", schedule.name)
