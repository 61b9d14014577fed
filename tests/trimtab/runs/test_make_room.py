"""Which engines make room for a run, and that they take it back however the run ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from align.recipe.recipe import resolve
from common.gpu_cards import Card
from serve.engine.cards import card_room
from serve.engine.cards.placement import Placement
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from serve.errors import EngineFailed
from store.errors import Conflict
from tests.support.fake_cards import GB, card
from trimtab.config.training_sections import TrainingSettings
from trimtab.runs import make_room
from trimtab.runs.make_room import Need, room_for
from trimtab.runs.planning import Machine as Planned

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Machine:
    """Two cards and three engines, of which `b` holds most of card 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.failing: set[str] = set()
        self.held = {"a": 10, "b": 50, "other": 60}
        where = {"a": 0, "b": 0, "other": 1}
        given = {name: Placement((card(where[name]),), size * GB, {}, {}) for name, size in self.held.items()}
        cards = SimpleNamespace(given=lambda: given, can_sleep=True)
        engines = [
            SimpleNamespace(spec=EngineSpec(name, "base", "m", device="cuda"), state="ready", cards=cards)
            for name in self.held
        ]
        self.pool = cast(EnginePool, SimpleNamespace(cards=cards, engines=lambda: engines))
        self.where = where
        for verb in ("sleep", "wake", "shrink", "grow"):
            monkeypatch.setattr(card_room, verb, self._do(verb))

    def _do(self, verb: str) -> Any:
        async def do(engine: Engine) -> None:
            name = engine.spec.name
            self.log.append(f"{verb} {name}")
            if name in self.failing:
                raise EngineFailed(name, "no")
            if verb in ("sleep", "shrink"):
                self.held[name] = 1

        return do

    def read(self) -> list[Card]:
        return [
            card(index, free=80 - sum(size for name, size in self.held.items() if self.where[name] == index))
            for index in (0, 1)
        ]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


async def run(machine: Machine, needed: float, **settings: Any) -> None:
    chosen = TrainingSettings(**({"make_room": "sleep", "device": "cuda:0"} | settings))
    async with room_for(Need(needed * GB), machine.pool, chosen, machine.read):
        machine.log.append("train")


async def test_nothing_is_done_where_there_is_room_or_by_default(machine: Machine) -> None:
    await run(machine, 15)
    await run(machine, 70, make_room="never")
    await run(machine, 0)
    assert machine.log == ["train", "train", "train"]


async def test_the_largest_engines_of_the_card_sleep_until_the_run_has_trained(machine: Machine) -> None:
    await run(machine, 60)
    assert machine.log == ["sleep b", "train", "wake b"]


async def test_all_of_them_where_it_takes_all(machine: Machine) -> None:
    await run(machine, 75)
    assert machine.log == ["sleep b", "sleep a", "train", "wake a", "wake b"]


async def test_they_may_shrink_instead(machine: Machine) -> None:
    await run(machine, 60, make_room="shrink")
    assert machine.log == ["shrink b", "train", "grow b"]


async def test_they_wake_when_the_worker_crashes(machine: Machine) -> None:
    chosen = TrainingSettings(make_room="sleep", device="cuda:0")
    with pytest.raises(RuntimeError, match="crashed"):
        async with room_for(Need(60 * GB), machine.pool, chosen, machine.read):
            raise RuntimeError("the worker crashed")
    assert machine.log == ["sleep b", "wake b"]


async def test_an_engine_that_makes_no_room_costs_no_run(machine: Machine) -> None:
    machine.failing = {"b"}
    await run(machine, 60)
    assert machine.log == ["sleep b", "sleep a", "train", "wake a", "wake b"]


async def test_one_that_does_not_wake_keeps_no_other_asleep(machine: Machine) -> None:
    await run(machine, 75)
    machine.log.clear()
    machine.held |= {"a": 10, "b": 50}
    machine.failing = {"a"}
    await run(machine, 75)
    assert machine.log == ["sleep b", "sleep a", "train", "wake a", "wake b"]


async def test_engines_whose_memory_the_operator_set_do_not_shrink(machine: Machine) -> None:
    engines: Any = machine.pool.engines()
    engines[1].spec = EngineSpec("b", "base", "m", device="cuda", args={"gpu_memory_utilization": 0.6})
    engines[0].state = "failed"
    await run(machine, 60, make_room="shrink")
    assert machine.log == ["train"]


@pytest.mark.parametrize(("device", "expected"), [("cpu", Need()), ("cuda", Need(9e9 + make_room.MARGIN))])
async def test_a_run_needs_what_its_plan_says_on_a_card_and_nothing_on_the_processor(
    device: str, expected: Need, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resolve("dpo").to_dict()
    directory: Any = SimpleNamespace(spec=lambda: SimpleNamespace(recipe=recipe, base_model="/m"))
    db: Any = SimpleNamespace()

    async def call(db: object, function: object, *args: object) -> Any:
        return SimpleNamespace(total=9e9), None, None

    monkeypatch.setattr(make_room, "this_machine", lambda *_: Planned(device, 10e9, 80e9))
    monkeypatch.setattr(make_room, "call_store", call)
    chosen = TrainingSettings(make_room="sleep")
    assert await make_room.needed_by(db, directory, "assistant", chosen) == expected
    assert await make_room.needed_by(db, directory, "assistant", TrainingSettings()) == Need()


async def test_a_run_without_a_plan_starts_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: object) -> Any:
        raise Conflict("nothing to plan for")

    directory: Any = SimpleNamespace(
        spec=lambda: SimpleNamespace(recipe=resolve("dpo").to_dict(), base_model="/m")
    )
    monkeypatch.setattr(make_room, "this_machine", lambda *_: Planned("cuda", 10e9, 80e9))
    monkeypatch.setattr(make_room, "call_store", call)
    db: Any = None
    assert await make_room.needed_by(db, directory, "x", TrainingSettings(make_room="sleep")) == Need()
