"""When a scheduled run is due: a table over values."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from common.training_methods import Method
from trimtab.config.training_sections import ScheduleSettings
from trimtab.runs.schedule import Schedule, Scheduler, due, next_time

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
BEFORE = NOON - timedelta(seconds=30)
AFTER = NOON + timedelta(seconds=30)
DAILY = ScheduleSettings(cron="0 12 * * *")
EVERY = ScheduleSettings(every_pairs=10)
BOTH = ScheduleSettings(cron="0 12 * * *", every_pairs=10)


@pytest.mark.parametrize(
    ("settings", "last", "now", "new", "active", "expected"),
    [
        (ScheduleSettings(), BEFORE, AFTER, 999, False, None),
        (DAILY, BEFORE, AFTER, 1, False, "cron"),
        (DAILY, BEFORE, AFTER, 0, False, None),
        (DAILY, BEFORE, AFTER, 1, True, None),
        (DAILY, AFTER, AFTER + timedelta(seconds=5), 1, False, None),
        (DAILY, BEFORE - timedelta(seconds=20), BEFORE, 1, False, None),
        (EVERY, BEFORE, AFTER, 9, False, None),
        (EVERY, BEFORE, AFTER, 10, False, "10 new pairs"),
        (EVERY, BEFORE, AFTER, 10, True, None),
        (BOTH, BEFORE, AFTER, 3, False, "cron"),
        (BOTH, AFTER, AFTER, 12, False, "12 new pairs"),
    ],
)
def test_due(
    settings: ScheduleSettings, last: datetime, now: datetime, new: int, active: bool, expected: str | None
) -> None:
    said = due(settings, now=now, last_checked=last, new_rows=new, active=active)
    assert (said is None) == (expected is None)
    if expected is not None:
        assert said is not None
        assert expected in said


@pytest.mark.parametrize(("method", "rows"), [("dpo", "pairs"), ("sft", "demonstrations"), ("kto", "likes")])
def test_the_reason_names_the_rows_of_the_method(method: Method, rows: str) -> None:
    settings = ScheduleSettings(every_pairs=2, method=method)
    assert (
        due(settings, now=AFTER, last_checked=BEFORE, new_rows=3, active=False) == f"3 new {rows} (every 2)"
    )


def test_next_time_is_the_first_after() -> None:
    assert next_time(DAILY, BEFORE) == NOON
    assert next_time(DAILY, NOON) == NOON + timedelta(days=1)
    assert next_time(EVERY, NOON) is None


class CountedRuns:
    """New rows as counted in turn, or an error; then `last`, `asked_again` times."""

    def __init__(self, counts: list[int | Exception], last: int) -> None:
        self.counts, self.last = counts[::-1], last
        self.asked_again = 0
        self.started: list[str] = []

    async def new_rows(self) -> int:
        self.asked_again += not self.counts
        value = self.counts.pop() if self.counts else self.last
        if isinstance(value, Exception):
            raise value
        return value

    async def active(self) -> bool:
        return False

    async def start(self, reason: str) -> None:
        self.started.append(reason)


def schedule_each(*each: CountedRuns) -> None:
    """Run a scheduler until each has been asked for its rows twice more than it has counts."""

    async def scenario() -> None:
        scheduler = Scheduler(
            [Schedule(f"s{n}", EVERY, runs) for n, runs in enumerate(each)], interval_s=0.01
        )
        async with asyncio.timeout(30):
            task = asyncio.create_task(scheduler.run())
            while min(runs.asked_again for runs in each) < 2:
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(scenario())


def started_by(runs: CountedRuns) -> list[str]:
    schedule_each(runs)
    return runs.started


def test_the_scheduler_goes_on_after_a_failure_and_starts_what_is_due() -> None:
    runs = CountedRuns([ValueError("the store is busy"), 10, 0], last=0)
    assert started_by(runs) == ["10 new pairs (every 10)"]


def test_pairs_that_a_run_failed_on_do_not_start_the_next_one() -> None:
    assert len(started_by(CountedRuns([10, 10, 19, 20], last=20))) == 2


def test_a_failing_schedule_does_not_stop_the_others() -> None:
    failing, other = CountedRuns([ValueError("the store is busy")] * 5, last=0), CountedRuns([10], last=0)
    schedule_each(failing, other)
    assert (failing.started, other.started) == ([], ["10 new pairs (every 10)"])


class BusyRuns(CountedRuns):
    """Runs of which one is under way at first."""

    def __init__(self, busy: list[bool]) -> None:
        super().__init__([], last=5)
        self.busy = iter(busy)

    async def active(self) -> bool:
        return next(self.busy, False)


def test_a_cron_moment_during_a_run_is_due_after_it() -> None:
    async def scenario(busy: list[bool]) -> list[str]:
        runs = BusyRuns(busy)
        schedule = Schedule("schedule", ScheduleSettings(cron="* * * * *"), runs)
        schedule._last_checked = datetime.now(UTC) - timedelta(minutes=2)
        for _ in range(3):
            await schedule.start_if_due()
        return runs.started

    assert len(asyncio.run(scenario([True, True]))) == 1
    assert len(asyncio.run(scenario([]))) == 1
