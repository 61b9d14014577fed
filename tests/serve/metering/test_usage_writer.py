"""Usage that survives restarts, midnights and a failing store, on a clock that the test turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from serve.errors import InsufficientQuota
from serve.metering.limits import Holder, Limits
from serve.metering.rate_limiter import RateLimiter
from serve.metering.usage_counter import UsageCounter, Used
from serve.metering.usage_writer import UsageWriter
from store.accounts import usage
from store.db.database import Store
from store.privacy import erasure

ada, bob = Holder("user ada", "ada"), Holder("user bob", "bob")
SUNDAY, MONDAY, TUESDAY = date(2026, 11, 29), date(2026, 11, 30), date(2026, 12, 1)
NEVER = 3600.0
"""The thread sleeps for as long as a test takes."""


class Clock:
    def __init__(self) -> None:
        self.to(SUNDAY)

    def to(self, day: date, hour: int = 12) -> None:
        self.now = datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "trimtab.duckdb") as store:
        yield store


def started(db: Store, clock: Clock, every_s: float = NEVER) -> tuple[UsageCounter, UsageWriter]:
    counter = UsageCounter(clock)
    writer = UsageWriter(db, counter, every_s)
    writer.start()
    return counter, writer


def tokens(counter: UsageCounter, who: Holder = ada) -> tuple[int, int]:
    today, month = counter.spent(who.id)
    return today.tokens, month.tokens


def stored(db: Store, day: date) -> dict[str, int]:
    return {row.name: row.prompt_tokens + row.completion_tokens for row in usage.sums(db, day, day)}


def soon(condition: object) -> bool:
    end = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_restart_in_the_middle_of_a_day_gives_nothing_away(db: Store, clock: Clock) -> None:
    limits = Limits(tokens_per_day=100)
    counter, writer = started(db, clock)
    limiter = RateLimiter(limits, counter=counter)
    limiter.enter([ada])
    limiter.leave([ada], Used(60, 40))
    writer.close()

    counter, writer = started(db, clock)
    assert tokens(counter) == (100, 100)
    with pytest.raises(InsufficientQuota, match="100 tokens a day"):
        RateLimiter(limits, counter=counter).enter([ada])
    counter.add([ada, bob], Used(1, 2))
    writer.close()
    assert stored(db, SUNDAY) == {"ada": 103, "bob": 3}
    found = {row.name: row for row in usage.sums(db, SUNDAY, SUNDAY)}
    assert (found["ada"].requests, found["ada"].prompt_tokens, found["ada"].completion_tokens) == (2, 61, 42)


def test_a_restart_on_the_next_day_keeps_the_month(db: Store, clock: Clock) -> None:
    counter, writer = started(db, clock)
    counter.add([ada], Used(10))
    writer.close()
    clock.to(MONDAY)
    counter, writer = started(db, clock)
    assert tokens(counter) == (0, 10)
    writer.close()
    clock.to(TUESDAY)
    counter, writer = started(db, clock)
    assert tokens(counter) == (0, 0)
    writer.close()


def test_day_and_month_change_under_a_running_platform(db: Store, clock: Clock) -> None:
    counter, writer = started(db, clock)
    counter.add([ada], Used(10))
    clock.to(MONDAY, hour=0)
    assert tokens(counter) == (0, 10)
    counter.add([ada], Used(20))
    clock.to(TUESDAY, hour=0)
    assert tokens(counter) == (0, 0)
    counter.add([ada], Used(40))
    assert tokens(counter) == (40, 40)
    writer.close()
    assert [stored(db, day).get("ada") for day in (SUNDAY, MONDAY, TUESDAY)] == [10, 20, 40]


def test_the_thread_writes_while_requests_go_on(db: Store, clock: Clock) -> None:
    counter, writer = started(db, clock, every_s=0.01)
    adding = [
        threading.Thread(target=lambda: [counter.add([ada], Used(1, 1)) for _ in range(2_000)])
        for _ in range(4)
    ]
    for thread in adding:
        thread.start()
    assert soon(lambda: stored(db, SUNDAY))
    for thread in adding:
        thread.join()
    assert soon(lambda: stored(db, SUNDAY) == {"ada": 16_000}), stored(db, SUNDAY)
    assert tokens(counter) == (16_000, 16_000)
    writer.close()
    assert stored(db, SUNDAY) == {"ada": 16_000}


def test_after_midnight_the_thread_loads_what_the_store_has(db: Store, clock: Clock) -> None:
    """As after a clock that was wrong at the start: the day that it is put to has usage of its own."""
    counter, writer = started(db, clock)
    counter.add([ada], Used(5))
    writer.close()
    clock.to(date(2020, 1, 1))
    counter, writer = started(db, clock, every_s=0.01)
    assert tokens(counter) == (0, 0)
    clock.to(SUNDAY)
    counter.add([ada], Used(1))
    assert soon(lambda: tokens(counter) == (6, 6)), tokens(counter)
    writer.close()
    assert stored(db, SUNDAY) == {"ada": 6}


def test_increments_are_kept_and_tried_again(
    db: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[object] = []

    def full(*args: object) -> None:
        tried.append(args)
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr("serve.metering.usage_writer.RETRY_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(usage, "add", full)
        counter, writer = started(db, clock, every_s=0.01)
        counter.add([ada], Used(7))
        assert soon(lambda: len(tried) > 2)
        clock.to(MONDAY)
        counter.add([ada], Used(9))
        assert not writer.flush()
        assert tokens(counter) == (9, 16)
    assert "tried again" in caplog.text
    assert soon(lambda: stored(db, MONDAY))
    writer.close()
    assert (stored(db, SUNDAY), stored(db, MONDAY)) == ({"ada": 7}, {"ada": 9})
    assert tokens(counter) == (9, 16)


def test_failed_final_write_is_reported(
    db: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counter, writer = started(db, clock)
    counter.add([ada], Used(7))
    monkeypatch.setattr(usage, "add", lambda *args: (_ for _ in ()).throw(duckdb.IOException("full")))
    writer.close()
    assert "is lost" in caplog.text


def test_erasure_drops_usage_in_memory(db: Store, clock: Clock) -> None:
    counter, writer = started(db, clock)
    counter.add([ada, bob], Used(7))
    writer.flush()
    counter.add([ada, bob], Used(1))
    writer.flush()
    with writer.erasing([ada.id]):
        erasure.erase_person(db, "ada")
        counter.add([ada, bob], Used(1))
    assert (tokens(counter), tokens(counter, bob)) == ((0, 0), (9, 9))
    counter.add([ada, bob], Used(1))  # a request that had begun before
    assert (tokens(counter), tokens(counter, bob)) == ((0, 0), (10, 10))
    writer.flush()
    assert stored(db, SUNDAY) == {"bob": 10}
    counter.add([Holder("user ada", "ada")], Used(5))
    writer.close()
    assert stored(db, SUNDAY) == {"bob": 10, "ada": 5}, "what they ask afterwards is new"
