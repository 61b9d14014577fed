"""What a starting engine is said to do, by logs of vLLM 0.32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve.engine import start_stages
from serve.engine.start_stages import StartStages

LOG = [
    (12, "INFO [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: model='m'"),
    (25, "INFO [model_runner.py:388] Starting to load model m..."),
    (33, "INFO [backends.py:1104] Using cache directory: /c/torch_compile_cache for vLLM's torch.compile"),
    (65, "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%|          | 0/17"),
    (78, "INFO [core.py:396] init engine (profile, create kv cache, warmup model) took 50.1 s"),
]


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(start_stages, "time", clock)
    return clock


def start(history: Path, clock: Clock, engine: str = "main", device: str = "NVIDIA H100") -> list[str]:
    """Return what is said two seconds after each line of the log."""
    began = clock.now
    stages, log, said = StartStages(history, engine, device), "", []
    for second, line in LOG:
        clock.now = began + second
        log += line + "\n"
        stages.read(log)
        clock.now += 2
        said.append(stages.say())
    clock.now = began + 80
    stages.finish()
    return said


def test_a_first_start_names_its_stage_and_promises_no_time(tmp_path: Path, clock: Clock) -> None:
    said = start(tmp_path / "cache" / "starts.json", clock)
    unknown = "; no earlier start of this engine on this device is known"
    assert said == [
        f"importing vLLM for 14 s, 14 s in all{unknown}",
        f"loading weights for 2 s, 27 s in all{unknown}",
        f"compiling for 2 s, 35 s in all{unknown}",
        f"capturing CUDA graphs for 2 s, 67 s in all{unknown}",
        f"opening its server for 2 s, 80 s in all{unknown}",
    ]


def test_a_later_start_says_how_long_the_last_one_took(tmp_path: Path, clock: Clock) -> None:
    history = tmp_path / "starts.json"
    start(history, clock)
    said = start(history, clock)
    assert said[2] == "compiling for 2 s (last time 32 s), 35 s in all (last time 80 s)"
    assert "no earlier start" in start(history, clock, device="cpu")[0]
    assert "no earlier start" in start(history, clock, engine="other")[0]


def test_only_the_newest_starts_are_kept(tmp_path: Path, clock: Clock) -> None:
    for _ in range(7):
        start(tmp_path / "starts.json", clock)
    found = json.loads((tmp_path / "starts.json").read_text())
    assert [len(rows) for rows in found.values()] == [5]


@pytest.mark.parametrize("text", ["", "[1]", '{"main on cpu": 3}', '{"main on cpu": [{"seconds": "x"}]}'])
def test_a_damaged_history_counts_as_none(text: str, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "starts.json").write_text(text)
    assert "no earlier start" in start(tmp_path / "starts.json", clock, device="cpu")[0]
    assert "last time 80 s" in start(tmp_path / "starts.json", clock, device="cpu")[0]
