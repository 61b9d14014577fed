"""What schedules would start, when and why, from now on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from common.time_windows import next_open, parse_window, time_zone
from trimtab.config.training_sections import ScheduleSettings
from trimtab.runs.schedule import ROWS, jitter, next_time


@dataclass(frozen=True, slots=True)
class Planned:
    """A cron moment, and when a run may start for it: jitter and windows come after."""

    moment: datetime
    starts_at: datetime


def planned_moments(name: str, settings: ScheduleSettings, after: datetime) -> Iterator[Planned]:
    """Yield the cron moments past `after` in order; those that wait for one opening of a window are one run."""
    zone, windows = time_zone(settings.timezone), [*map(parse_window, settings.windows)]
    moment, last = next_time(settings, after), None
    while moment is not None:
        starts = next_open(windows, zone, moment + jitter(name, settings, moment))
        if starts != last:
            yield Planned(moment, starts)
        last, moment = starts, next_time(settings, moment)


def explain(settings: ScheduleSettings, new_rows: int, active: bool, now: datetime | None = None) -> str:
    """Return in words what the schedule waits for."""
    if not settings.enabled:
        return "off: neither cron nor every_pairs is set"
    rows, waits = ROWS[settings.method], []
    zone, windows = time_zone(settings.timezone), [*map(parse_window, settings.windows)]
    now = now or datetime.now(UTC)
    if active:
        waits.append("for the deployment's run to end")
    if (opens := next_open(windows, zone, now)) > now:
        waits.append(f"for its window, which opens at {opens.astimezone(zone).isoformat(timespec='minutes')}")
    if settings.every_pairs is not None and new_rows < settings.every_pairs:
        also = " (or a cron moment)" if settings.cron else ""
        waits.append(f"for {settings.every_pairs - new_rows} more {rows}{also}")
    elif settings.every_pairs is None and new_rows == 0:
        waits.append(f"for a cron moment with new {rows}: there are none since the last snapshot")
    elif settings.every_pairs is None:
        waits.append("for the next cron moment")
    return "waits " + ", and ".join(waits) if waits else "due now"
