"""Votes that came since the last snapshot are looked at first, and measured by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.evaluation.measures import choose_rows
from align.evaluation.suite import run_suite
from tests.support.stub_releases import Release, StubPlatform, write_heldout

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_up_to_half_of_the_rows_are_fresh_where_there_are_more_than_are_looked_at() -> None:
    rows = [{"cluster": f"c{n}", "fresh": n >= 90} for n in range(100)]
    for limit, fresh in ((40, 10), (12, 6)):
        chosen = choose_rows(rows, limit, "seed")
        assert len(chosen) == limit
        assert fresh <= sum(row["fresh"] for row in chosen) <= fresh + 4
    assert [row for row in choose_rows(rows, 12, "a") if row["fresh"]] != [
        row for row in choose_rows(rows, 12, "b") if row["fresh"]
    ]


async def test_fresh_rows_have_a_reward_accuracy_of_their_own(tmp_path: Path) -> None:
    file = write_heldout(tmp_path / "heldout.parquet", 16)
    learned = StubPlatform(x_1=Release(), x_2=Release(chosen=-1.0))
    reports = []
    for fresh in ({f"pair-{n}" for n in range(6)}, set[str]()):
        async with learned.api() as api:
            reports.append(await run_suite(api, "x@2", "x@1", file, "quick", fresh=fresh))
    assert reports[0]["measures"]["fresh_reward_accuracy"]["release"]["n"] == 6
    assert reports[0]["measures"]["fresh_reward_accuracy"]["release"]["value"] == 1.0
    assert reports[0]["measures"]["reward_accuracy"]["release"]["n"] == 16
    assert "fresh_reward_accuracy" not in reports[1]["measures"]
