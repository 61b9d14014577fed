"""Time zones, windows, jitter and downtime of schedules."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

import trimtab.runs.schedule
from trimtab.config.training_sections import ScheduleSettings
from trimtab.runs.schedule import Schedule, due, jitter, next_time
from trimtab.runs.schedule_moments import ScheduleMoments
from trimtab.runs.schedule_preview import explain, planned_moments

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)  # a Monday
NIGHTS = ScheduleSettings(cron="0 3 * * *", timezone="Europe/Berlin", windows=("mon-fri 22:00-06:00",))


def test_cron_is_in_the_schedules_time_zone_in_summer_and_winter() -> None:
    daily = ScheduleSettings(cron="0 3 * * *", timezone="Europe/Berlin")
    assert next_time(daily, NOON) == datetime(2026, 1, 6, 2, tzinfo=UTC)
    assert next_time(daily, datetime(2026, 7, 1, 12, tzinfo=UTC)) == datetime(2026, 7, 2, 1, tzinfo=UTC)


def test_a_run_waits_for_its_window_and_starts_once_for_all_that_waited() -> None:
    settings = ScheduleSettings(cron="0 * * * *", windows=("22:00-06:00",))
    last = NOON - timedelta(hours=5)
    asked = {"last_checked": last, "new_rows": 3, "active": False}
    assert due(settings, now=NOON, **asked) is None
    assert due(settings, now=NOON.replace(hour=22), **asked) is not None
    rows = ScheduleSettings(every_pairs=2, windows=("22:00-06:00",))
    assert due(rows, now=NOON, **asked) is None
    assert due(rows, now=NOON.replace(hour=22), **asked) == "3 new pairs (every 2)"


def test_jitter_is_the_same_for_a_moment_and_differs_between_schedules() -> None:
    settings = ScheduleSettings(cron="0 12 * * *", jitter_minutes=30)
    late = jitter("a", settings, NOON)
    assert timedelta() <= late < timedelta(minutes=30)
    assert late == jitter("a", settings, NOON)
    assert len({jitter(name, settings, NOON) for name in "abcdef"}) > 1
    assert jitter("a", ScheduleSettings(cron="0 12 * * *"), NOON) == timedelta()
    asked = {"last_checked": NOON - timedelta(minutes=1), "new_rows": 1, "active": False, "name": "a"}
    assert due(settings, now=NOON + late - timedelta(seconds=1), **asked) is None
    assert due(settings, now=NOON + late, **asked) is not None


class Counted:
    """Runs with one new row, which keep the reasons that they were started for."""

    def __init__(self, rows: int = 1) -> None:
        self.rows, self.started = rows, list[str]()

    async def new_rows(self) -> int:
        return self.rows

    async def active(self) -> bool:
        return False

    async def start(self, reason: str) -> None:
        self.started.append(reason)


class Clock(datetime):
    """`datetime` whose `now` is set."""

    at = NOON

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return cls.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    for module in (trimtab.runs.schedule, trimtab.runs.schedule_moments):
        monkeypatch.setattr(module, "datetime", Clock)
    return Clock


def look(
    path: Path, runs: Counted, clock: type[Clock], *moments: datetime, settings: ScheduleSettings
) -> None:
    """Start a platform's schedule at the first moment, look at it at each, and stop it."""
    clock.at = moments[0]
    schedule = Schedule("schedule", settings, runs, ScheduleMoments(path))
    for clock.at in moments:
        asyncio.run(schedule.start_if_due())


def test_moments_that_passed_while_the_platform_was_down_are_one_run(
    tmp_path: Path, clock: type[Clock]
) -> None:
    path, runs, hour = tmp_path / "schedules.json", Counted(), timedelta(hours=1)
    settings = ScheduleSettings(cron="0 * * * *")
    look(path, runs, clock, NOON, NOON + hour, settings=settings)
    assert len(runs.started) == 1
    runs.started.clear()
    back = NOON + timedelta(days=2, minutes=10)
    look(
        path, runs, clock, back, back + timedelta(minutes=5), back + timedelta(minutes=10), settings=settings
    )
    assert runs.started == ["cron '0 * * * *' at 2026-01-05T14:00:00+00:00"]
    runs.started.clear()
    look(path, runs, clock, back + timedelta(minutes=20), settings=settings)
    assert runs.started == []


def test_a_moment_without_new_rows_is_over_and_does_not_start_a_run_later(
    tmp_path: Path, clock: type[Clock]
) -> None:
    path, runs = tmp_path / "schedules.json", Counted(0)
    settings = ScheduleSettings(cron="0 * * * *")
    look(path, runs, clock, NOON, NOON + timedelta(hours=1), settings=settings)
    runs.rows = 5
    look(path, runs, clock, NOON + timedelta(minutes=70), settings=settings)
    assert runs.started == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schedule": 5}', '{"schedule": "2026-01-01T00:00:00"}'])
def test_a_file_of_moments_that_says_nothing_starts_from_now(
    content: str, tmp_path: Path, clock: type[Clock]
) -> None:
    path, runs = tmp_path / "schedules.json", Counted()
    path.write_text(content)
    look(path, runs, clock, NOON + timedelta(minutes=1), settings=ScheduleSettings(cron="0 * * * *"))
    assert runs.started == []
    assert json.loads(path.read_text()) == {"schedule": "2026-01-05T12:01:00+00:00"}


def test_a_moment_waits_for_its_jitter_across_looks(tmp_path: Path, clock: type[Clock]) -> None:
    settings = ScheduleSettings(cron="0 13 * * *", jitter_minutes=30)
    late = jitter("schedule", settings, NOON + timedelta(hours=1))
    moment, runs = NOON + timedelta(hours=1), Counted()
    look(tmp_path / "s.json", runs, clock, NOON, moment, moment + late / 2, settings=settings)
    assert runs.started == []
    look(tmp_path / "s.json", runs, clock, moment + late, settings=settings)
    assert len(runs.started) == 1


def test_the_preview_says_when_runs_start_and_joins_those_of_one_window() -> None:
    found = [*islice(planned_moments("schedule", NIGHTS, NOON), 5)]
    assert [plan.starts_at.isoformat() for plan in found] == [
        "2026-01-06T02:00:00+00:00", "2026-01-07T02:00:00+00:00", "2026-01-08T02:00:00+00:00",
        "2026-01-09T02:00:00+00:00", "2026-01-10T02:00:00+00:00",
    ]  # fmt: skip
    hourly = ScheduleSettings(cron="0 * * * *", windows=("22:00-23:00",))
    assert [plan.starts_at.hour for plan in islice(planned_moments("s", hourly, NOON), 3)] == [22, 22, 22]


@pytest.mark.parametrize(
    ("settings", "rows", "active", "words"),
    [
        (ScheduleSettings(), 3, False, "off: neither cron nor every_pairs is set"),
        (ScheduleSettings(every_pairs=5), 3, False, "waits for 2 more pairs"),
        (ScheduleSettings(every_pairs=5, cron="0 3 * * *"), 3, False, "waits for 2 more pairs (or a cron moment)"),
        (ScheduleSettings(every_pairs=5), 7, False, "due now"),
        (ScheduleSettings(every_pairs=5), 7, True, "waits for the deployment's run to end"),
        (ScheduleSettings(cron="0 3 * * *"), 2, False, "waits for the next cron moment"),
        (
            ScheduleSettings(cron="0 3 * * *"), 0, False,
            "waits for a cron moment with new pairs: there are none since the last snapshot",
        ),
        (
            ScheduleSettings(every_pairs=5, windows=("22:00-06:00",)), 7, False,
            "waits for its window, which opens at 2026-01-05T22:00+00:00",
        ),
    ],
)  # fmt: skip
def test_the_preview_says_what_a_schedule_waits_for(
    settings: ScheduleSettings, rows: int, active: bool, words: str
) -> None:
    assert explain(settings, rows, active, NOON) == words


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("timezone", "Mars", "not a time zone"),
        ("windows", ("22-06",), "not a time window"),
        ("jitter_minutes", -1, "jitter"),
    ],
)
def test_settings_that_are_no_times_are_refused(field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ScheduleSettings(**{field: value})  # type: ignore[arg-type]
