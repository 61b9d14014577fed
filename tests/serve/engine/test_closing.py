"""The gate before an adapter that is being unloaded, on values: no engine runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serve.engine.engine import Engine
from serve.engine.spec import EngineSpec
from serve.errors import AdapterNotLoaded, DrainTimeout

pytestmark = pytest.mark.anyio
NAME = "a-0123456789abcdef"


@pytest.fixture
def idle(tmp_path: Path) -> Engine:
    return Engine(EngineSpec("e", "b", "m"), tmp_path)


async def test_requests_wait_until_the_adapter_can_be_loaded_again(idle: Engine) -> None:
    async with idle.in_flight.pause_adapter(NAME, 1, refuse=False):
        waiting = asyncio.create_task(idle.in_flight.wait_until_open(NAME))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await idle.in_flight.wait_until_open("a-another")
        await idle.in_flight.wait_until_open(None)
    await asyncio.wait_for(waiting, 1)


async def test_requests_are_rejected_for_an_adapter_being_withdrawn(idle: Engine) -> None:
    async with idle.in_flight.pause_adapter(NAME, 1, refuse=True):
        with pytest.raises(AdapterNotLoaded) as caught:
            await idle.in_flight.wait_until_open(NAME)
        assert caught.value.status == 404
    await idle.in_flight.wait_until_open(NAME)


async def test_nothing_is_closed_over_a_running_request(idle: Engine) -> None:
    with idle.in_flight.lease(NAME), pytest.raises(DrainTimeout):
        async with idle.in_flight.pause_adapter(NAME, 0.05, refuse=True):
            raise AssertionError("a request of it runs")
    await idle.in_flight.wait_until_open(NAME)


async def test_one_closes_after_the_other(idle: Engine) -> None:
    order: list[str] = []

    async def close(who: str) -> None:
        async with idle.in_flight.pause_adapter(NAME, 1, refuse=True):
            order.append(f"{who} in")
            await asyncio.sleep(0.02)
            order.append(f"{who} out")

    await asyncio.gather(close("one"), close("two"))
    assert order == ["one in", "one out", "two in", "two out"]
