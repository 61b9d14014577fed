"""The run directory: complete when run.toml is there, readable while it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from align_helpers import pairs, write_rows

from align.errors import RunDirectoryError
from align.recipe.recipe import resolve
from align.run_directory import COMPLETE, RunDirectory, RunSpec

SPEC = RunSpec(method="dpo", base_model="/models/base", recipe=resolve("dpo", True).to_dict(), snapshot="s-1")


def test_write_and_read(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "source.parquet", pairs(2))
    run = RunDirectory(tmp_path / "run")
    run.write(SPEC, source, source)
    assert run.spec() == SPEC
    assert (run.spec().quantization, run.spec().seed) == ("nf4", 42)
    run.write(SPEC)  # again: nothing changes
    with pytest.raises(RunDirectoryError, match="another run"):
        run.write(RunSpec(method="dpo", base_model="/other", recipe=SPEC.recipe, snapshot="s-1"))
    assert not [p for p in run.path.iterdir() if "partial" in p.name]


def test_without_data_there_is_no_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"train\.parquet"):
        run.write(SPEC)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        run.spec()
    assert (run.report(), run.error(), run.probe(), run.progress(), run.checkpoints()) == (
        None,
        None,
        None,
        [],
        [],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("base_model", "bass_model"), "bass_model"),
        (('snapshot = "s-1"', ""), "snapshot"),
        (('quantization = "nf4"', 'quantization = "none"'), "contradicts"),
        (("seed = 42", "seed = ["), "TOML"),
        (('method = "dpo"', 'method = "sft"'), "method"),
    ],
)
def test_a_damaged_run_toml_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "run.toml").write_text(SPEC.to_toml().replace(*change, 1))
    with pytest.raises(RunDirectoryError, match=message):
        RunDirectory(tmp_path).spec()


def test_progress_is_read_in_parts_and_skips_torn_lines(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    file = tmp_path / "progress.jsonl"
    file.write_text('{"kind": "phase"}\n{"kind": "st\n{"kind": "step", "step": 1}\n{"kind": "step", "st')
    rows = run.progress()
    assert [(r["kind"], r["line"]) for r in rows] == [("phase", 1), ("step", 3)]
    with file.open("a") as stream:
        stream.write('ep": 2}\n')
    assert [r["step"] for r in run.progress(after=3)] == [2]


def test_only_whole_checkpoints_count_and_in_order_of_steps(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for step in (9, 10, 2, 11):
        (run.checkpoints_dir / f"checkpoint-{step}").mkdir(parents=True)
        if step != 11:
            (run.checkpoints_dir / f"checkpoint-{step}" / COMPLETE).touch()
    assert [p.name for p in run.checkpoints()] == ["checkpoint-2", "checkpoint-9", "checkpoint-10"]


def test_stop_request(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.withdraw_stop()
    run.request_stop()
    assert run.stop_requested()
    run.withdraw_stop()
    assert not run.stop_requested()


def test_one_worker_at_a_time(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.held(), pytest.raises(RunDirectoryError, match="another worker"), RunDirectory(tmp_path).held():
        pass
    with run.held():
        pass


def test_damaged_report(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="damaged"):
        run.report()
    (tmp_path / "report.json").write_text(json.dumps([1]))
    with pytest.raises(RunDirectoryError, match="damaged"):
        run.report()


def test_activity_is_the_last_report_of_the_worker(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.activity() is None
    said = [
        ('{"kind": "phase", "phase": "reference"}', {"phase": "reference"}),
        (
            '{"kind": "scored", "phase": "reference", "rows": 30, "of": 60}',
            {"phase": "reference", "done": 30, "of": 60},
        ),
        ('{"kind": "note", "message": "by the way"}', {"phase": "reference", "done": 30, "of": 60}),
        (
            '{"kind": "step", "step": 2, "total_steps": 8, "loss": 0.5}',
            {"phase": "training", "done": 2, "of": 8},
        ),
        ('{"kind": "phase", "phase": "saving"}', {"phase": "saving"}),
    ]
    for line, expected in said:
        with (tmp_path / "progress.jsonl").open("a") as file:
            file.write(line + "\n")
        assert run.activity() == expected
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write('{"kind": "note", "message": "' + "x" * 2**16 + '"}\n' + said[3][0] + '\n{"kind": "ph')
    assert run.activity() == said[3][1]


def test_sft_stage_of_sft_then_dpo_is_labelled(tmp_path: Path) -> None:
    run, first = RunDirectory(tmp_path), tmp_path / "sft"
    (tmp_path / "progress.jsonl").write_text('{"kind": "phase", "phase": "loading"}\n')
    first.mkdir()
    assert run.activity() == {"phase": "loading", "stage": "sft"}
    (first / "progress.jsonl").write_text('{"kind": "step", "step": 1, "total_steps": 4}\n')
    assert run.activity() == {"phase": "training", "done": 1, "of": 4, "stage": "sft"}
    (first / "report.json").write_text("{}")
    assert run.activity() == {"phase": "loading"}
