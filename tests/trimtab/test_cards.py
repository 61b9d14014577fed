"""Which cards a run gets, and who is shown to hold the memory of each."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from align.run_directory import RunDirectory
from common.gpu_cards import Card
from feedback_ui.ops.overview import render
from serve.engine.cards.placement import Placement
from serve.engine.process import GuardedProcess
from tests.support.fake_cards import GB, card
from trimtab.cards.usage import CardUsage, find_owners, holders
from trimtab.cli.platform import _describe_card
from trimtab.config.training_sections import TrainingSettings
from trimtab.runs.worker_device import UnknownDevice, worker_environment
from trimtab.runs.workers import TrainingFailed, Workers

pytestmark = pytest.mark.anyio
TWO = [card(0, free=10), card(1, free=60)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# ---- which card a run takes


@pytest.mark.parametrize(
    ("device", "cards", "processes", "expected"),
    [
        ("auto", [], 1, {}),
        ("auto", [card()], 1, {}),
        ("auto", TWO, 1, {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("cuda", TWO, 2, {"CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("cuda:0", TWO, 1, {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("cuda:3", [], 1, {"CUDA_VISIBLE_DEVICES": "3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("cpu", TWO, 1, {"CUDA_VISIBLE_DEVICES": ""}),
    ],
)
def test_a_run_takes_the_card_with_most_room_or_the_one_that_is_set(
    device: str, cards: list[Card], processes: int, expected: dict[str, str]
) -> None:
    assert worker_environment(device, cards, processes) == expected


def test_a_card_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownDevice, match=r"training.device is cuda:2; accepted: .*cuda:0, cuda:1"):
        worker_environment("cuda:2", TWO)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_another_device_is_no_setting(device: str) -> None:
    with pytest.raises(ValueError, match="device"):
        TrainingSettings(device=device)


class RecordingWorkers(Workers):
    """Starts processes that wait, and records with which environment."""

    started: list[tuple[str, dict[str, str]]]

    async def _start(
        self, argument: str, own_log: Path, on: dict[str, str], reads_input: bool = False
    ) -> GuardedProcess:
        self.started.append((argument, on))
        waiting = SimpleNamespace(returncode=None, log=own_log, stop=self._stop, send_line=self._send)
        return cast(GuardedProcess, waiting)

    async def _stop(self, grace_s: float) -> int:
        self.started.append(("stopped", {}))
        return 0

    def _send(self, line: str, log: Path) -> None:
        self.started.append(("sent", {}))


def workers(cards: list[Card], device: str = "auto") -> RecordingWorkers:
    made = RecordingWorkers(TrainingSettings(device=device), Path("/nowhere/waiting.log"), lambda: cards)
    made.started = []
    return made


def directory(processes: int = 1) -> RunDirectory:
    spec = SimpleNamespace(recipe={"params": {"num_processes": processes}})
    return cast(RunDirectory, SimpleNamespace(path=Path("/nowhere/run"), spec=lambda: spec))


async def test_the_waiting_worker_takes_a_run_unless_another_card_has_more_room_now() -> None:
    now = [card(0, free=70), card(1, free=60)]
    waiting = workers(now, "auto")
    await waiting.warm()
    await waiting.start(directory())
    assert [name for name, _ in waiting.started] == ["--warm", "sent"]
    assert waiting.started[0][1]["CUDA_VISIBLE_DEVICES"] == "0"
    await waiting.warm()
    now[:] = [card(0, free=10), card(1, free=60)]
    await waiting.start(directory())
    assert [name for name, _ in waiting.started[2:]] == ["--warm", "stopped", "/nowhere/run"]
    assert waiting.started[-1][1]["CUDA_VISIBLE_DEVICES"] == "1"
    await waiting.start(directory(processes=2))
    assert waiting.started[-1][1]["CUDA_VISIBLE_DEVICES"] == "1,0"


async def test_a_run_on_a_card_that_is_not_there_fails_in_words() -> None:
    waiting = workers(TWO, "cuda:7")
    await waiting.warm()
    assert waiting.started == []
    with pytest.raises(TrainingFailed, match=r"training.device is cuda:7; accepted") as caught:
        await waiting.start(directory())
    assert caught.value.facts["kind"] == "device"


# ---- who holds what


def given(taken: float, on: Card) -> Placement:
    return Placement((on,), int(taken * GB), {}, {})


def test_memory_is_attributed_to_engines_training_and_others_by_their_processes() -> None:
    held = {10: 6 * GB, 11: GB, 20: 9 * GB, 30: 2 * GB}
    found = holders(
        card(free=61, held=held),
        {10: "engine main", 11: "engine main", 20: "training"},
        {"main": given(8, card())},
    )
    assert [(row["name"], row["bytes"] // GB, row["measured"]) for row in found] == [
        ("training", 9, True),
        ("engine main", 7, True),
        ("other programs", 2, True),
    ]


def test_where_processes_are_hidden_engines_count_with_what_they_were_given() -> None:
    found = holders(card(free=60), {}, {"main": given(8, card()), "elsewhere": given(8, card(1))})
    assert [(row["name"], row["bytes"] // GB, row["measured"]) for row in found] == [
        ("training and other programs", 12, False),
        ("engine main", 8, False),
    ]
    assert holders(card(), {}, {}) == []


def test_children_of_an_engine_belong_to_it() -> None:
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        owners = find_owners({"main": child.pid})
        assert owners[child.pid] == "engine main"
        assert owners[other.pid] == "training"
    finally:
        child.kill()
        other.kill()
        child.wait()
        other.wait()


async def test_the_drivers_tool_is_not_run_for_every_request() -> None:
    calls: list[int] = []

    def read() -> list[Card]:
        calls.append(1)
        return [card(free=30)]

    pool: Any = SimpleNamespace(engines=list, cards=SimpleNamespace(given=dict))
    usage = CardUsage(pool, read)
    first, second = await asyncio.gather(usage.rows(), usage.rows())
    assert first == second
    assert first[0]["free"] == 30 * GB
    assert len(calls) == 1


def test_status_and_ops_show_each_card() -> None:
    row = {
        "index": 0,
        "name": "NVIDIA H100",
        "total": 80 * GB,
        "free": 61 * GB,
        "holders": [
            {"name": "training", "bytes": 11 * GB, "measured": True},
            {"name": "engine main", "bytes": 8 * GB, "measured": False},
        ],
    }
    assert (
        _describe_card(row)
        == "card 0 (NVIDIA H100): training 11.0 GB, engine main about 8.0 GB, 61.0 of 80 GB free"
    )
    page = render.cards([row])
    for part in ("NVIDIA H100", "training", "11.0 GB", "about 8.0 GB", "61.0 GB of 80.0 GB"):
        assert part in page
    assert render.cards([]) == ""
