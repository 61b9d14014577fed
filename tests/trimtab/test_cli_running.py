"""The command line against a platform in this process: imports as a person sees them, lineage, raters, snapshots."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from store.accounts import audit
from store.datasets import snapshots
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import releases
from store.training_data import batch_import, import_file, pairs
from store.training_data.import_file import Progress
from tests.support.in_thread import platform_in_thread
from tests.support.stub_releases import Release, StubPlatform
from trimtab.api.training_data import imports
from trimtab.app import build_platform
from trimtab.cli import app
from trimtab.cli.training_data import imports as cli_imports
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

LONG_S = 30
"""How long a test waits for what takes moments, seconds."""
GOOD = {"prompt": "One?", "chosen": "yes", "rejected": "no"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    settings = Settings(data=tmp_path_factory.mktemp("data"), engines=engines)
    with platform_in_thread(lambda url: build_platform(settings, url)) as platform:
        yield platform


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result.output


def write(name: str, *rows: Any) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return Path(name)


def test_refused_rows_lie_beside_the_file_and_nothing_is_overwritten(platform: Platform) -> None:
    file = write("votes.jsonl", GOOD, {"prompt": "Two?"}, "broken")
    said = run("pairs", "import", str(file))
    assert "1 accepted, 0 known already, 2 refused" in said
    assert "votes.jsonl.rejects.jsonl" in said
    assert "row 2: " in said
    kept = Path("votes.jsonl.rejects.jsonl").read_text()
    assert [json.loads(line)["row"] for line in kept.splitlines()] == [2, 3]
    again = json.loads(run("pairs", "import", str(file), "--json"))
    assert again["rejects"].endswith("votes.jsonl.rejects-2.jsonl")
    assert Path("votes.jsonl.rejects.jsonl").read_text() == kept
    run("pairs", "import", str(file), "--rejects", "mine.jsonl")
    assert "exists already" in run("pairs", "import", str(file), "--rejects", "mine.jsonl", status=1)
    good = write("good.jsonl", GOOD | {"prompt": "Three?"})
    assert "rejects" not in run("pairs", "import", str(good))
    assert not list(Path().glob("good.jsonl.*"))


def test_half_a_character_refuses_its_row_alone(platform: Platform) -> None:
    bad = {"prompt": "Cut?", "chosen": "A smile \ud83d", "rejected": "None.", "note \udcff": 1}
    file = write("emoji.jsonl", bad, GOOD | {"prompt": "Four?", "more \ud83d [/x]": "[/y]"})
    said = run("pairs", "import", str(file))
    assert "1 accepted, 0 known already, 1 refused" in said
    assert "row 1: " in said
    (kept,) = Path("emoji.jsonl.rejects.jsonl").read_text().splitlines()
    assert json.loads(kept)["data"] == bad
    assert json.loads(run("pairs", "import", str(file), "--json"))["rejected_count"] == 1


def test_half_a_character_anywhere_ends_no_command_with_a_traceback(platform: Platform) -> None:
    half = "a\udcff[/x]"
    for command in (
        ("pairs", "import", half),
        ("pairs", "export", half, "--format", half),
        ("runs", "show", half),
        ("releases", "show", half),
        ("lineage", "user", half),
        ("users", "remove", half),
        ("keys", "revoke", half),
        ("eval", half),
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code in (0, 1, 2), (command, result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            command,
            result.exception,
        )
    name = os.fsdecode(b"rows-\xff.jsonl")
    Path(name).write_text(json.dumps(GOOD | {"prompt": "Five?"}) + "\n{}\n")
    assert "1 accepted" in run("pairs", "import", name)


def test_import_prints_unused_columns_and_applied_rules(platform: Platform) -> None:
    file = write("more.jsonl", {"Question": "Six?", "chosen": "a", "rejected": "b", "mood": "[good]"})
    said = run("pairs", "import", str(file))
    assert "column mood was not used (1 rows)" in said
    assert "(prompt_from_column, 1 rows)" in said
    again = json.loads(run("pairs", "import", str(file), "--json"))
    assert (again["unused_columns"], again["rules"]["columns_renamed"]) == ({"mood": 1}, 1)


def test_the_directory_of_a_parquet_export_is_imported(platform: Platform) -> None:
    run("pairs", "import", str(write("seven.jsonl", GOOD | {"prompt": "Seven?"})))
    run("pairs", "export", str(Path("out").absolute()), "--format", "parquet")
    assert "0 accepted" in run("pairs", "import", "out")
    assert "0 refused" in run("pairs", "import", "out/")


def test_a_row_is_removed_with_a_reason(platform: Platform) -> None:
    pairs.import_rows(platform.db, [GOOD | {"prompt": "To be removed?"}], "test")
    [row] = pairs.list_page(platform.db, 1)
    assert "--reason" in run("pairs", "remove", row.id, status=2)
    assert "removed" in run("pairs", "remove", row.id, "--reason", "a test row")
    assert row.id not in {kept.id for kept in pairs.list_page(platform.db)}
    assert audit.list_recent(platform.db, 1)[0].detail["reason"] == "a test row"
    for noun in ("pairs", "demos", "likes"):
        assert "no-such" in run(noun, "remove", "no-such", "--reason", "x", status=1)


def test_an_import_that_takes_no_row_fails_and_says_so(platform: Platform) -> None:
    file = write("bad.jsonl", {"prompt": "Two?"}, "broken")
    command = ("pairs", "import", str(file), "--format", "trl")
    assert "no row was taken: every one was refused" in run(*command, status=1)
    assert json.loads(run(*command, "--json", status=1))["rejected_count"] == 2
    assert "is a directory" in run("pairs", "import", ".", status=1)
    assert "no such file" in run("pairs", "import", "nothing.jsonl", status=1)


def test_options_are_refused_before_the_file_is_sent(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_imports._Screen, "sending", None)
    file = write("votes.jsonl", GOOD)
    assert "argilla" in run("pairs", "import", str(file), "--format", "morse", status=1)
    assert "assistant" in run("pairs", "import", str(file), "--deployment", "nobody", status=1)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: what a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_an_import_and_prints_the_kept_rows(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, removed = threading.Event(), threading.Event()
    stop, remove = imports._Import._stop, imports._Import._remove

    def paced(*args: Any, on_progress: Callable[[Progress], None], **options: Any) -> Any:
        def after_a_batch(progress: Progress) -> None:
            on_progress(progress)
            noticed.wait(LONG_S)

        return import_file.import_file(*args, on_progress=after_a_batch, **options)

    def interrupt(self: Any, progress: dict[str, Any]) -> None:
        show(self, progress)
        os.kill(os.getpid(), signal.SIGINT)

    show = cli_imports._Screen.importing
    monkeypatch.setattr(batch_import, "BATCH", 2)
    monkeypatch.setattr(batch_import, "TELL_S", LONG_S)
    monkeypatch.setattr(imports, "MAX_SILENCE_S", LONG_S)
    monkeypatch.setattr(imports, "import_file", paced)
    monkeypatch.setattr(imports._Import, "_stop", lambda *given: (stop(*given), noticed.set()))
    monkeypatch.setattr(imports._Import, "_remove", lambda self: (remove(self), removed.set()))
    monkeypatch.setattr(cli_imports._Screen, "importing", interrupt)
    before = pairs.count(platform.db)
    file = write("votes.jsonl", *(GOOD | {"prompt": f"{n}?"} for n in range(20)))
    assert "at least 2 rows were taken and stay" in run("pairs", "import", str(file), status=130)
    assert removed.wait(LONG_S)
    assert pairs.count(platform.db) == before + 4


def test_lineage_raters_gold_and_snapshots(platform: Platform) -> None:
    gold = ("gold", "add", "2 + 2?", "--good", "4", "--bad", "5", "--votes", "1")
    question = json.loads(run(*gold, "--json"))["id"]
    assert "waits for 1 raters" in run(*gold)
    shown = comparisons.get(platform.db, question)
    comparisons.vote(platform.db, question, "a" if shown.a.content == "4" else "b", "ada")
    made = comparisons.create(platform.db, "Q?", [Candidate("yes"), Candidate("no")])
    (pair,) = comparisons.vote(platform.db, made.id, "a", "ada").pairs
    assert "1 of 1" in run("raters")
    assert [row["name"] for row in json.loads(run("raters", "--json"))["raters"]] == ["ada"]
    assert "no release learned from it" in run("lineage", "pair", pair)
    assert json.loads(run("lineage", "user", "ada", "--json")) == []
    assert "no person 'nobody'" in run("lineage", "user", "nobody", status=1)
    assert json.loads(run("lineage", "release", "assistant@1", "--json"))["pairs"] == 0
    assert "no snapshots yet" in run("snapshots", "list")
    frozen = snapshots.build(platform.db, platform.paths.snapshots, "assistant", "dpo")
    assert frozen.id in run("snapshots", "list")
    report = run("snapshots", "show", frozen.id)
    assert "characters of" in report
    assert "chosen_longer" in report
    assert json.loads(run("snapshots", "show", frozen.id, "--json"))["report"]["train_rows"] > 0


def test_an_erasure_names_the_runs(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"removed": {"votes": 1}, "releases": [], "runs": ["run-1", "run-2"], "stopped": ["run-2"]}

    async def erase(self: object, name: str, dry_run: bool) -> Any:
        return done

    monkeypatch.setattr("trimtab_client.resources.admin.Admin.erase_user", erase)
    said = run("users", "erase", "ada", "--yes")
    assert "runs whose data held rows of theirs: run-1, run-2" in said
    assert "ask for them anew: run-2" in said


def test_an_evaluation_writes_its_report(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"Measured {n}?", "chosen": f"yes {n}", "rejected": f"no, {n}"} for n in range(30)]
    pairs.import_rows(platform.db, rows, "measured.jsonl")
    snapshots.build(platform.db, platform.paths.snapshots, "assistant", "dpo", 0.3, near_duplicates=None)
    new = releases.create(platform.db, "assistant", "smollm2-135m-instruct").ref

    async def ready(base: str) -> None:
        """An engine that serves."""

    stub = StubPlatform()
    stub.releases = {"assistant@1": Release(), new: Release(chosen=-1.9, rejected=-2.2)}
    monkeypatch.setattr(platform.evaluations, "_chat_api", stub.api)
    monkeypatch.setattr(platform.serving, "wait_ready", ready)
    for name, begins in (("out.html", "<!doctype html>"), ("out.md", f"# {new} against assistant@1")):
        run("eval", new, "--against", "assistant@1", "--suite", "quick", "--report", name)
        assert Path(name).read_text().startswith(begins)
    for name in ("out.pdf", "nowhere/out.md"):
        assert ".html or .md" in run("eval", new, "--report", name, status=1)


def test_pairs_are_made_by_rules(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ready(base: str) -> None:
        """An engine that serves."""

    work: Any = platform.jobs.kinds["pairs.make"]
    monkeypatch.setattr(work, "chat_api", StubPlatform(assistant_1=Release()).api)
    monkeypatch.setattr(platform.serving, "wait_ready", ready)
    prompts = write("prompts.jsonl", *({"prompt": f"Tell me of {n}."} for n in range(9)))
    Path("rules.toml").write_text('prefer = "shorter"\n')
    asked = ("pairs", "make", "--prompts", str(prompts), "--rules", "rules.toml")
    assert "requests" in run(*asked, "--dry-run")
    assert "no jobs yet" in run("jobs", "list", "--kind", "poems")
    said = run(*asked)
    assert "pairs (rules:" in said
    assert "prompts kept for held-out data" in said
    done = json.loads(run(*asked, "--json"))
    assert done["result"]["duplicates"] > 0
    shown = json.loads(run("jobs", "show", done["id"], "--json"))
    assert shown["state"] == "done"
    assert done["id"] in run("jobs", "list", "--kind", "pairs.make")
    Path("texts.txt").write_text("Tell me of 99.\n\nTell me of 98.\n")
    plan = run("pairs", "make", "--prompts", "texts.txt", "--rules", "rules.toml", "--dry-run", "--json")
    assert json.loads(plan)["prompts"] + json.loads(plan)["heldout"] == 2


def test_a_prompt_is_distilled(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ready(base: str) -> None:
        """An engine that serves."""

    ref = releases.create(platform.db, "assistant", "smollm2-135m-instruct", system_prompt="Be brief.").ref
    stub = StubPlatform()
    stub.releases = {ref: Release()}
    monkeypatch.setattr(platform.jobs.kinds["distil"], "chat_api", stub.api)
    monkeypatch.setattr(platform.serving, "wait_ready", ready)
    monkeypatch.setattr(platform.runner, "steps", {})  # a run that is asked for, and not trained
    prompts = write("prompts.jsonl", *({"prompt": f"Tell me of the number {n}."} for n in range(9)))
    said = run("train", "sft", "--distil", ref, "--prompts", str(prompts))
    assert f"answers of {ref} (distilled:" in said
    assert "trimtab runs watch run-" in said
    newest = json.loads(run("runs", "list", "--json"))[0]
    assert newest["no_system_prompt"] is True
    assert "--distil RELEASE" in run("train", "sft", "--prompts", str(prompts), status=2)
    assert "--from traffic" in run("train", "sft", "--distil", ref, status=2)
    assert "system prompt" in run("train", "sft", "--distil", "assistant@1", "--from", "traffic", status=1)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--rules", "rules.toml"), 2, "--from traffic"),
        (("--from", "books", "--rules", "rules.toml"), 2, "accepted is traffic"),
        (("--from", "traffic"), 2, "--rules, --judge and --release"),
        (("--from", "traffic", "--rules", "gone.toml"), 2, "gone.toml"),
        (("--from", "traffic", "--rules", "broken.toml"), 2, "broken.toml"),
        (("--prompts", "broken.jsonl", "--rules", "rules.toml"), 2, "JSON lines"),
        (("--from", "traffic", "--judge", "http://x"), 2, "--judge-model"),
        (("--from", "traffic", "--judge", "http://x", "--judge-model", "j"), 1, "fewer than 50"),
        (("--prompts", "empty.txt", "--rules", "rules.toml"), 1, "at least one prompt"),
        (("--prompts", "rules.toml", "--rules", "odd.toml"), 1, "shorter or longer"),
    ],
)
def test_bad_options_of_pairs_make_say_what_is_accepted(
    platform: Platform, options: tuple[str, ...], status: int, said: str
) -> None:
    Path("rules.toml").write_text('prefer = "shorter"\n')
    Path("odd.toml").write_text('prefer = "funny"\n')
    Path("broken.toml").write_text("prefer = \n")
    Path("broken.jsonl").write_text("{\n")
    Path("empty.txt").write_text("\n")
    assert said in run("pairs", "make", *options, status=status)
