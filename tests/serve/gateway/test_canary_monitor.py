"""The canary's watch, pruning and shadow: decisions on values."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serve.adapters.prune import choose, delete_leftovers, needed, prune
from serve.engine.pool import EnginePool
from serve.gateway.canary_monitor import CanaryMonitor, CanaryPolicy
from serve.router import Target
from store.db.database import Store
from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord
from tests.serve.conftest import tiny_spec

pytestmark = pytest.mark.anyio
CANARY = Target("m", "m", "m@2", "rel-2", "b", lane="canary")


STABLE = replace(CANARY, release="m@1", release_id="rel-1", lane="stable")


async def test_alarm_is_raised_once() -> None:
    rung: list[str] = []

    async def on_alarm(target: Target, why: str) -> None:
        rung.append(f"{target.release}: {why}")

    watch = CanaryMonitor(CanaryPolicy(max_failed=0.2, min_requests=10), on_alarm)
    for n in range(80):
        watch.note(CANARY, ok=n % 2 != 0)
        watch.note(STABLE, ok=True)
    await asyncio.sleep(0)
    (said,) = rung
    assert said.startswith("m@2: ")
    assert "requests failed, more often than stable's" in said


async def test_canary_that_fails_as_often_as_stable_raises_no_alarm() -> None:
    """An outage of the engine that both run on is not the canary's fault."""
    watch = CanaryMonitor(CanaryPolicy(max_failed=0.2, min_requests=10))
    for n in range(200):
        watch.note(CANARY, ok=n % 3 == 0)
        watch.note(STABLE, ok=n % 3 == 0)
    assert watch._rung == set()
    broken = replace(CANARY, release="m@3")
    for _ in range(20):
        watch.note(broken, ok=False)
        watch.note(STABLE, ok=True)
    assert watch._rung == {"m@3"}


@pytest.mark.parametrize("failing", [0.03, 0.05, 0.2])
async def test_false_alarms_are_rare_however_often_both_fail(failing: float) -> None:
    """1% in the whole life of a canary; a fixed share of the last requests rang in 6% and 23% of these."""
    draw, rung = random.Random(int(1000 * failing)), 0
    for _ in range(150):
        watch = CanaryMonitor(CanaryPolicy())
        for _ in range(400):
            for _ in range(3):
                watch.note(STABLE, ok=draw.random() >= failing)
            watch.note(CANARY, ok=draw.random() >= failing)
        rung += bool(watch._rung)
    assert rung <= 5


async def test_few_or_old_failures_ring_nothing() -> None:
    now = 0.0
    watch = CanaryMonitor(CanaryPolicy(max_failed=0.2, min_requests=10, window_s=60), None, lambda: now)
    for _ in range(9):
        watch.note(CANARY, ok=False)
    now = 61.0
    for _ in range(9):
        watch.note(CANARY, ok=False)
    assert watch._rung == set()
    watch.note(CANARY, ok=False)
    assert watch._rung == {"m@2"}


def record(name: str, days: float) -> AdapterRecord:
    return AdapterRecord(
        hash=name, base="tiny", path=name, created_at=datetime.now(UTC) - timedelta(days=days)
    )


def test_pruning_goes_by_count_and_age_and_spares_what_is_needed() -> None:
    records = [record(f"a-{n:016x}", n) for n in range(6)]

    def chosen(**how: object) -> list[int]:
        return [int(r.hash[2:], 16) for r in choose(records, {"a-0000000000000004"}, **how)]  # type: ignore[arg-type]

    assert chosen() == []
    assert chosen(keep_last=2) == [2, 3, 5]
    assert chosen(max_age=timedelta(days=2.5)) == [3, 5]
    assert chosen(keep_last=5, max_age=timedelta(days=99)) == [5]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "t.duckdb") as store:
        deployments.ensure(store, "assistant", "tiny")
        yield store


async def test_a_rollback_target_survives_pruning(db: Store, tiny_base: Path, tmp_path: Path) -> None:
    directory = tmp_path / "adapters"
    for n in range(1, 5):
        name = f"a-{n:016x}"
        (directory / name).mkdir(parents=True)
        made = datetime.now(UTC) - timedelta(days=9 - n)
        adapters.record(db, AdapterRecord(hash=name, base="tiny", path=name, created_at=made))
        release = releases.create(db, "assistant", "tiny", adapter=name)
        if n in (2, 3):
            deployments.promote(db, "assistant", "test", release.ref)
    assert needed(db) == {"a-0000000000000002", "a-0000000000000003"}
    old = directory / ".a-00000000000000ff.12345678.part"
    old.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    fresh = directory / ".a-00000000000000fe.12345678.part"
    fresh.mkdir()
    idle = EnginePool([tiny_spec(tiny_base, "idle")], tmp_path)
    gone = await prune(db, idle, directory, keep_last=0)
    assert sorted(gone) == ["a-0000000000000001", "a-0000000000000004"]
    assert sorted(p.name for p in directory.iterdir()) == [
        fresh.name, "a-0000000000000002", "a-0000000000000003",
    ]  # fmt: skip
    delete_leftovers(directory)
    assert fresh.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A real failure of write(2): the process may not write files of more than 4 kB."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    (source / "adapter_model.safetensors").write_bytes(os.urandom(20_000))
    code = textwrap.dedent(f"""
        import resource, signal
        from pathlib import Path
        from serve.adapters.validation import AdapterFacts
        from serve.errors import AdapterRefused
        from serve.adapters.publishing import _place
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        facts = AdapterFacts("a-0123456789abcdef", 4, 1, 20000, (), 1.0)
        try:
            _place(Path({str(source)!r}), Path({str(tmp_path / "adapters")!r}), facts)
        except AdapterRefused as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be placed" in done.stdout
    assert list((tmp_path / "adapters").iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    shutil.rmtree(source)
