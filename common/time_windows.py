"""Times of the week in which something may start, and time zones by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ACCEPTED = "'22:00-06:00', 'sat,sun 00:00-24:00' or 'mon-fri 20:00-06:00'"
_WINDOW = re.compile(r"(?:([a-z,-]+)\s+)?(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)")
_MIDNIGHT = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """A time of day on some weekdays (0 is Monday), in minutes since midnight.

    One that passes midnight is of the day on which it begins.
    """

    days: frozenset[int]
    begin: int
    end: int

    def holds(self, local: datetime) -> bool:
        """Return whether a local time is within."""
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        return (today in self.days and minute >= self.begin) or (
            (today - 1) % 7 in self.days and minute < self.end
        )


def parse_window(text: str) -> Window:
    """Return the window that a text such as `mon-fri 22:00-06:00` names. Raises `ValueError`."""
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"not a time window: {text!r}; accepted: {ACCEPTED}")
    days, *numbers = found.groups()
    hour, minute, end_hour, end_minute = map(int, numbers)
    begin, end = hour * 60 + minute, end_hour * 60 + end_minute
    if minute > 59 or end_minute > 59 or begin >= _MIDNIGHT or end > _MIDNIGHT or begin == end:
        raise ValueError(f"not a time window: {text!r}; accepted: {ACCEPTED}")
    return Window(_parse_days(days, text), begin, end)


def _parse_days(words: str | None, text: str) -> frozenset[int]:
    if words is None:
        return frozenset(range(7))
    found: set[int] = set()
    for word in words.split(","):
        first, dash, last = word.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"not a time window: {text!r}; days: {', '.join(DAYS)}")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + n) % 7 for n in range(length + 1)}
    return frozenset(found)


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database. Raises `ValueError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"not a time zone: {name!r}; accepted: names such as UTC or Europe/Berlin"
        ) from error


def is_open(windows: Sequence[Window], zone: ZoneInfo, moment: datetime) -> bool:
    """Return whether a moment is within one of the windows; without windows every moment is."""
    local = moment.astimezone(zone)
    return not windows or any(window.holds(local) for window in windows)


def next_open(windows: Sequence[Window], zone: ZoneInfo, after: datetime) -> datetime:
    """Return the first moment from `after` on that is within a window, in UTC."""
    if is_open(windows, zone, after):
        return after.astimezone(UTC)
    local = after.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = (
        # wall time: on the two days a year that are not 24 hours long, too
        (midnight + timedelta(days=day, minutes=window.begin)).astimezone(UTC)
        for day in range(9)
        for window in windows
        if (local.weekday() + day) % 7 in window.days
    )
    return min(begin for begin in begins if begin > after and is_open(windows, zone, begin))
