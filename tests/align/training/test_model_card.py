"""The model card of an adapter."""

from __future__ import annotations

from pathlib import Path

from align.report import TrainReport
from align.run_directory import RunSpec
from align.stats import mean_interval
from align.training.model_card import write_card


def test_a_measure_of_one_held_out_prompt_has_no_interval(tmp_path: Path) -> None:
    measures = {"n": 1, "reward_margin": mean_interval([0.5])}
    report = TrainReport(
        train={"rows": 2},
        heldout={"before": measures, "after": measures},
        reference={"kind": "base"},
        recipe={"params": {}},
    )
    write_card(tmp_path, RunSpec("dpo", "base", {"params": {}, "qlora": False}, "s-1"), report)
    assert "| reward_margin | 0.5 (n=1) | 0.5 (n=1) |" in (tmp_path / "README.md").read_text()
