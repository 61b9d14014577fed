"""What each holder has used in this calendar day and month, and what of it the store does not have yet.

Kept in memory, so that counting and asking are a few dictionary look-ups; `serve.metering.usage_writer` loads
it from the store
and takes the increments there. Knows no budget and no database. Any thread may call it.

    what was used = what the store has + what was taken and is being written + what is fresh
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from serve.metering.limits import Holder
from serve.metering.periods import Period, day_of, month_of
from store.accounts.usage import Usage


@dataclass(frozen=True, slots=True)
class Used:
    """What one answered request used, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(slots=True)
class Sum:
    """What one holder used in a period: answered requests and their tokens."""

    name: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, more: Sum) -> None:
        """Count what another sum holds."""
        self.requests += more.requests
        self.prompt_tokens += more.prompt_tokens
        self.completion_tokens += more.completion_tokens


Sums = dict[str, Sum]
"""Sums by the id of a holder."""


class UsageCounter:
    """Counts what holders use. `clock` gives seconds since the epoch; days and months are those of UTC.

    A request counts toward the day on which it ends. When the clock passes into another day, forwards or backwards,
    `loaded` is false until `load` brings what the store has of it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh: dict[date, Sums] = {}
        self._taken: dict[date, Sums] = {}
        self._of_day: Sums = {}
        self._of_month: Sums = {}
        self._dropped: dict[str, float] = {}
        self._turn(clock())
        self._month = month_of(self._day.first)

    def add(self, who: Sequence[Holder], used: Used) -> None:
        """Count one answered request, of everybody who pays for it."""
        with self._lock:
            self._keep_up()
            fresh = self._fresh.setdefault(self._day.first, {})
            for one in who:
                if self._dropped and one.since <= self._dropped.get(one.id, -math.inf):
                    continue
                found = fresh.get(one.id)
                if found is None:
                    found = fresh[one.id] = Sum(one.name)
                found.requests += 1
                found.prompt_tokens += used.prompt_tokens
                found.completion_tokens += used.completion_tokens

    def spent(self, holder: str) -> tuple[Sum, Sum]:
        """Return what a holder used today and this month."""
        today, this_month = Sum(holder), Sum(holder)
        with self._lock:
            self._keep_up()
            for total, stored in ((today, self._of_day), (this_month, self._of_month)):
                if holder in stored:
                    total.add(stored[holder])
            for unwritten in (self._taken, self._fresh):
                for day, sums in unwritten.items():
                    if holder in sums and day in self._month:
                        this_month.add(sums[holder])
                        if day in self._day:
                            today.add(sums[holder])
        return today, this_month

    def periods(self) -> tuple[Period, Period]:
        """Return the day and the month of this moment."""
        with self._lock:
            self._keep_up()
            return self._day, self._month

    def seconds_to(self, period: Period) -> float:
        """Return how long it is to the end of a period."""
        return period.ends.timestamp() - self._clock()

    def drop(self, holders: Iterable[str]) -> None:
        """Drop what these holders used and the store does not have, and count none of their requests under way."""
        with self._lock:
            for holder in holders:
                self._dropped[holder] = time.monotonic()
                for sums in self._fresh.values():
                    sums.pop(holder, None)

    def take(self) -> Mapping[date, Sequence[Usage]]:
        """Hand over what is fresh, by day, to be written; say `written` or `put_back` before the next call."""
        with self._lock:
            self._taken, self._fresh = self._fresh, {}
            return {
                day: [
                    Usage(holder, one.name, one.requests, one.prompt_tokens, one.completion_tokens)
                    for holder, one in sums.items()
                ]
                for day, sums in self._taken.items()
            }

    def written(self) -> None:
        """Note that the store has what was taken."""
        with self._lock:
            for day, sums in self._taken.items():
                if day in self._day:
                    _merge(self._of_day, sums)
                if day in self._month:
                    _merge(self._of_month, sums)
            self._taken = {}

    def put_back(self) -> None:
        """Note that the store does not have what was taken: it is fresh again."""
        with self._lock:
            for day, sums in self._taken.items():
                _merge(self._fresh.setdefault(day, {}), sums)
            self._taken = {}

    def load(self, day: Period, of_day: Iterable[Usage], of_month: Iterable[Usage]) -> None:
        """Take what the store has of `day` and of its month, while nothing is being written.

        Does nothing when `day` is over meanwhile.
        """
        with self._lock:
            if day == self._day:
                self._of_day, self._of_month = _sums(of_day), _sums(of_month)
                self.loaded = True

    def _keep_up(self) -> None:
        now = self._clock()
        if not self._begins <= now < self._ends:
            self._turn(now)
            month = month_of(self._day.first)
            if month != self._month:
                self._month, self._of_month = month, {}

    def _turn(self, now: float) -> None:
        self._day = day_of(now)
        self._ends = self._day.ends.timestamp()
        self._begins = self._ends - 86_400.0
        self._of_day = {}
        self.loaded = False


def _merge(into: Sums, more: Sums) -> None:
    for holder, one in more.items():
        into.setdefault(holder, Sum(one.name)).add(one)


def _sums(rows: Iterable[Usage]) -> Sums:
    return {row.holder: Sum(row.name, row.requests, row.prompt_tokens, row.completion_tokens) for row in rows}
