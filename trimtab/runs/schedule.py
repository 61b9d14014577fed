"""When retraining starts by itself. `due` decides, over values alone; `Scheduler` asks it at intervals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from cronsim import CronSim

from common.training_methods import Method
from trimtab.config.training_sections import ScheduleSettings

log = logging.getLogger(__name__)

ROWS: Mapping[Method, str] = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}
"""What a method learns from: the rows that its schedules count."""


def next_time(settings: ScheduleSettings, after: datetime) -> datetime | None:
    """Return the first moment past `after` that the cron expression names; None without one."""
    return next(CronSim(settings.cron, after)) if settings.cron else None


def due(
    settings: ScheduleSettings, *, now: datetime, last_checked: datetime, new_rows: int, active: bool
) -> str | None:
    """Return why a run should start now, or None.

    `last_checked` is when this was asked before, so that a cron moment between two askings is seen once. `new_rows`
    counts the rows of the schedule's method since the deployment's last snapshot for it; a cron moment without new rows
    starts nothing, and nothing starts while a run of the deployment is active.
    """
    if active:
        return None
    if settings.every_pairs is not None and new_rows >= settings.every_pairs:
        return f"{new_rows} new {ROWS[settings.method]} (every {settings.every_pairs})"
    moment = next_time(settings, last_checked)
    if moment is not None and moment <= now and new_rows > 0:
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
    """One schedule: its settings, its runs, and up to when and to how many rows they were looked at."""

    def __init__(self, name: str, settings: ScheduleSettings, runs: Runs) -> None:
        self.name, self.settings, self.runs = name, settings, runs
        self._last_checked = datetime.now(UTC)
        self._tried = 0

    async def start_if_due(self) -> None:
        """Start a run if one is due; a cron moment that passes during another run is due after it."""
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
        )
        if not active:
            self._last_checked = now
        if reason:
            log.info("run of %s: %s", self.name, reason)
            self._tried = new_rows
            await self.runs.start(reason)


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
