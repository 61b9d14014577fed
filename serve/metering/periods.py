"""Calendar days and months in UTC, as budgets count them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` to before `after`."""

    first: date
    after: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day < self.after

    @property
    def last(self) -> date:
        """The last day of it."""
        return self.after - timedelta(days=1)

    @property
    def ends(self) -> datetime:
        """The moment at which the next one begins."""
        return datetime.combine(self.after, time(), UTC)


def day_of(now: float) -> Period:
    """Return the day of a time in seconds since the epoch."""
    today = datetime.fromtimestamp(now, UTC).date()
    return Period(today, today + timedelta(days=1))


def month_of(day: date) -> Period:
    """Return the month that a day is in."""
    first = day.replace(day=1)
    return Period(first, (first + timedelta(days=31)).replace(day=1))
