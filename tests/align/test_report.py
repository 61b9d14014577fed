"""The report of a run, typed."""

from __future__ import annotations

import json
from pathlib import Path

from align.report import TrainReport
from align.run_directory import RunDirectory


def test_report_survives_the_file(tmp_path: Path) -> None:
    made = TrainReport(method="dpo", steps=3, train={"rows": 7}, notes=["a note"], peak_memory_bytes=5)
    (tmp_path / "report.json").write_text(json.dumps(made.to_dict()))
    assert RunDirectory(tmp_path).train_report() == made


def test_report_of_another_version_keeps_what_is_known() -> None:
    found = TrainReport.from_dict({"method": "sft", "a_later_field": 1})
    assert (found.method, found.notes, found.left_out) == ("sft", [], {})


def test_left_out_lists_reasons_with_rows() -> None:
    dropped = {"prompt_too_long": 2, "same_answers": 0, "examples": ["p1: prompt_too_long"]}
    assert TrainReport(train={"dropped": dropped}).left_out == {"prompt_too_long": 2}


def test_run_without_a_report_has_none(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).train_report() is None
