"""When retraining starts by itself. `due` decides, over values alone; `Scheduler` asks it at intervals."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Protocol

from cronsim import CronSim

from trimtab.config.training_sections import ScheduleSettings

log = logging.getLogger(__name__)


def next_time(settings: ScheduleSettings, after: datetime) -> datetime | None:
    """Return the first moment past `after` that the cron expression names; None without one."""
    return next(CronSim(settings.cron, after)) if settings.cron else None


def due(
    settings: ScheduleSettings, *, now: datetime, last_checked: datetime, new_pairs: int, active: bool
) -> str | None:
    """Return why a run should start now, or None.

    `last_checked` is when this was asked before, so that a cron moment between two askings is seen once. `new_pairs`
    counts the pairs since the deployment's last snapshot; a cron moment without new pairs starts nothing, and nothing
    starts while a run is active.
    """
    if active:
        return None
    if settings.every_pairs is not None and new_pairs >= settings.every_pairs:
        return f"{new_pairs} new pairs (every {settings.every_pairs})"
    moment = next_time(settings, last_checked)
    if moment is not None and moment <= now and new_pairs > 0:
        return f"cron {settings.cron!r} at {moment.isoformat()}"
    return None


class Runs(Protocol):
    """What the scheduler counts and starts."""

    async def new_pairs(self) -> int:
        """Count the pairs since the last snapshot."""

    async def active(self) -> bool:
        """Return whether a run is under way."""

    async def start(self, reason: str) -> None:
        """Start a run."""


class Scheduler:
    """Starts a run when one is due. Lives in the platform's event loop; `run` ends when cancelled."""

    def __init__(
        self,
        settings: ScheduleSettings,
        runs: Runs,
        interval_s: float = 5.0,
    ) -> None:
        self.settings, self.runs = settings, runs
        self._interval_s = interval_s

    @property
    def enabled(self) -> bool:
        """Whether anything can become due."""
        return self.settings.cron is not None or self.settings.every_pairs is not None

    async def run(self) -> None:
        """Ask `due` every few seconds for as long as the platform lives; one failure never ends it."""
        last_checked = datetime.now(UTC)
        tried = 0
        while self.enabled:
            await asyncio.sleep(self._interval_s)
            now = datetime.now(UTC)
            try:
                new_pairs = await self.runs.new_pairs()
                # pairs that a run has failed on already must not start the next one at once
                tried = min(tried, new_pairs)
                active = await self.runs.active()
                reason = due(
                    self.settings,
                    now=now,
                    last_checked=last_checked,
                    new_pairs=new_pairs - tried,
                    active=active,
                )
                if reason:
                    log.info("scheduled run: %s", reason)
                    tried = new_pairs
                    await self.runs.start(reason)
            except Exception:
                log.exception("the scheduler could not start a run")
            last_checked = now
