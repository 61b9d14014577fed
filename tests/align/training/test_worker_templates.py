"""A worker whose model's chat template refuses some rows trains on the others and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from align_helpers import in_process, make_tiny_model, pairs, read_json
from transformers import AutoTokenizer

from align.run_directory import RunDirectory
from tests.support.templates import NO_SYSTEM, TEMPLATES


def with_template(directory: Path, template: str) -> Path:
    model = make_tiny_model(directory)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(model)
    return model


def system_rows(n: int) -> list[dict[str, Any]]:
    system = {"role": "system", "content": "Be brief."}
    return [{**row, "prompt": [system, *row["prompt"]]} for row in pairs(n, seed=9)]


@pytest.mark.parametrize("params", [{}, {"sft_epochs": 1.0}])
def test_rows_that_the_template_refuses_are_left_out_and_reported(
    make_run: Callable[..., RunDirectory], tmp_path: Path, params: dict[str, Any]
) -> None:
    model = with_template(tmp_path / "model", NO_SYSTEM)
    cut = [
        {**row, "chosen_finish_reason": "length", "rejected_finish_reason": "stop"}
        for row in [*pairs(6), *system_rows(2)]
    ]
    run = make_run("dpo", {"max_steps": 2, **params}, train=cut, heldout=system_rows(2), model=model)
    assert in_process(run) == 0
    report = read_json(run.path / "report.json")
    assert report["train"]["rows"] == 6
    assert report["train"]["dropped"]["refused_by_template"] == 2
    assert report["train"]["dropped"]["without_end_token"] == 6
    assert any("2 rows were left out" in note and "no system message" in note for note in report["notes"])


def test_a_run_whose_every_row_is_refused_says_why(
    make_run: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    model = with_template(tmp_path / "model", NO_SYSTEM)
    run = make_run("dpo", {"max_steps": 1}, train=pairs(3), model=model, system_prompt="Be brief.")
    assert in_process(run) == 1
    error = read_json(run.path / "error.json")
    assert error["kind"] == "data"
    assert "refused_by_template: 3" in error["message"]
    assert "no system message is taken" in error["message"]


def test_a_report_notes_a_template_without_generation_prompt(
    make_run: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    model = with_template(tmp_path / "model", TEMPLATES["no generation prompt"])
    run = make_run("sft", {"max_steps": 1}, model=model)
    assert in_process(run) == 0
    assert any("no generation prompt" in note for note in read_json(run.path / "report.json")["notes"])
