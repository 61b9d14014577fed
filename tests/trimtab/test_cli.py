"""The command line without a platform: help, bad input, reading files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.cli.platform import _schedule_line
from trimtab.cli.runs import _parameter

GROUPS = {
    "": "up status doctor backup restore chat eval usage raters audit",
    "models": "list add remove prepare compare",
    "pairs": "import export stats",
    "demos": "import export",
    "likes": "import export",
    "train": "dpo sft kto",
    "runs": "list show watch cancel resume",
    "releases": "list show create compare lineage blend export tree diff",
    "prompts": "search",
    "rollout": "canary promote rollback evidence",
    "lineage": "pair user release",
    "snapshots": "list show",
    "rows": "list show exclude approve restore report views save-view remove-view",
    "gold": "add",
    "keys": "create list revoke",
    "users": "add list remove erase",
}
CONTRACT = [f"{group} {name}".strip() for group, names in GROUPS.items() for name in names.split()]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIMTAB_URL", raising=False)
    monkeypatch.delenv("TRIMTAB_KEY", raising=False)


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result.output


def test_the_package_runs_as_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trimtab", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: trimtab [OPTIONS] COMMAND" in done.stdout


@pytest.mark.parametrize("command", CONTRACT)
def test_every_command_of_the_contract_explains_itself(command: str) -> None:
    assert "Usage" in run(*command.split(), "--help")


def test_without_a_platform_a_command_says_how_to_start_one() -> None:
    for command in (["status"], ["runs", "list"], ["train", "dpo"], ["chat"], ["usage"]):
        assert "trimtab up" in run(*command, status=1)


def test_help_needs_no_heavy_library() -> None:
    heavy = ("torch", "gradio", "vllm", "peft")
    code = f"import sys; from trimtab.cli import app; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert out.stdout.strip() == "[]"


def test_first_key_and_first_user_say_what_changes() -> None:
    made = run("keys", "create", "ci", "--data", "d")
    assert "nobody can sign in" in made
    assert "trimtab users add NAME --role ops" in made
    said = run("users", "add", "ada", "--password", "correct horse", "--data", "d")
    assert "from now on everybody signs in" in said
    assert "No user has the role ops" in said
    made = json.loads(run("keys", "create", "hers", "--user", "ada", "--data", "d", "--json"))
    assert (made["user"], made["notice"]) == ("ada", None)
    assert "no user 'nobody'" in run("keys", "create", "x", "--user", "nobody", "--data", "d", status=1)


def test_users_and_keys_can_be_made_before_the_platform_starts(tmp_path: Path) -> None:
    secret = json.loads(run("keys", "create", "ci", "--role", "ops", "--data", "d", "--json"))["secret"]
    listed = json.loads(run("keys", "list", "--data", "d", "--json"))
    assert [row["name"] for row in listed] == ["ci"]
    assert secret not in json.dumps(listed)
    run("users", "add", "ada", "--role", "ops", "--password", "correct horse", "--data", "d")
    assert [row["name"] for row in json.loads(run("users", "list", "--data", "d", "--json"))] == ["ada"]
    run("keys", "revoke", listed[0]["id"], "--data", "d")
    run("users", "remove", "ada", "--data", "d")
    assert json.loads(run("users", "list", "--data", "d", "--json")) == []
    run("users", "add", "bob", "--password", "correct horse", "--data", "d")
    assert "erasing bob would delete: 1 user" in run("users", "erase", "bob", "--dry-run", "--data", "d")
    assert "bob is erased, with: 1 user" in run("users", "erase", "bob", "--yes", "--data", "d")
    assert "bob" in run("users", "erase", "bob", "--yes", "--data", "d", status=1)


@pytest.mark.parametrize(
    "command",
    [["backup", "b.duckdb"], ["users", "erase", "bob", "--yes"], ["users", "list"], ["users", "remove", "bob"],
     ["keys", "list"], ["keys", "revoke", "key-1"]],
)  # fmt: skip
def test_a_data_directory_without_a_store_is_named_and_stays_without_one(
    command: list[str], tmp_path: Path
) -> None:
    for directory in ("nowhere", "."):
        assert f"no store in {tmp_path / directory}" in run(*command, "--data", directory, status=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["backup", "/proc/x", "--data", "d"], "/proc/x"),
        (["restore", "b.duckdb", "--data", "/proc/zz"], "/proc/zz"),
        (["keys", "create", "ci", "--data", "/proc/zz"], "/proc/zz"),
        (["up", "--port", "0", "--data", "/proc/zz"], "/proc/zz"),
        (["models", "prepare", "--data", "/proc/zz"], "/proc/zz"),
    ],
)
def test_a_path_that_the_system_refuses_is_named_with_the_reason(command: list[str], path: str) -> None:
    if command[0] in ("backup", "restore"):
        run("keys", "create", "ci", "--data", "d")
    if command[0] == "restore":
        run("backup", "b.duckdb", "--data", "d")
    assert f"{path} cannot be used: " in run(*command, status=1).replace("\n", " ")


def test_a_wrong_role_names_the_accepted_ones() -> None:
    said = run("keys", "create", "ci", "--role", "king", "--data", "d", status=1)
    assert all(role in said for role in ("king", "chat", "rater", "ops"))


def test_doctor_finds_this_machine_fit() -> None:
    found = json.loads(run("doctor", "--data", "d", "--json"))
    assert {row["what"] for row in found} >= {"python", "libraries", "memory", "disk", "store", "engine main"}
    assert all(row["ok"] for row in found), found
    assert not Path("d").exists(), "doctor changes nothing"


def test_doctor_says_when_the_store_is_damaged() -> None:
    Path("d").mkdir()
    Path("d/trimtab.duckdb").write_bytes(b"not a database" * 1000)
    found = {row["what"]: row for row in json.loads(run("doctor", "--data", "d", "--json", status=1))}
    assert not found["store"]["ok"]
    assert "restore" in found["store"]["said"]


def test_models_add_refuses_a_directory_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert "no config.json" in run("models", "add", "mine", "./m", status=1)
    (tmp_path / "m" / "config.json").write_text("{}")
    assert "lacks safetensors weights" in " ".join(run("models", "add", "mine", "./m", status=1).split())
    assert not (tmp_path / "trimtab.toml").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_steps=3", ("max_steps", 3)),
        ("learning_rate=1e-4", ("learning_rate", 1e-4)),
        ("learning_rate=.5", ("learning_rate", 0.5)),
        ("target_modules=all-linear", ("target_modules", "all-linear")),
        ('target_modules=["q_proj"]', ("target_modules", ["q_proj"])),
        ("loss_type=a=b", ("loss_type", "a=b")),
    ],
)
def test_parameters_are_json_where_they_can_be(text: str, expected: object) -> None:
    assert _parameter(text) == expected


def test_usage_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str | None]] = []
    spent = {"requests": 3, "tokens": 1500, "requests_budget": None, "tokens_budget": 1000}
    free = {"requests": 3, "tokens": 1500, "requests_budget": None, "tokens_budget": None}
    row = {"kind": "key", "id": "key-1", "name": "ci", "requests": 3, "prompt_tokens": 500}
    rows = [row | {"completion_tokens": 1000, "today": free, "month": spent}]

    async def answer(self: object, since: str | None = None, until: str | None = None) -> object:
        asked.append((since, until))
        return rows

    monkeypatch.setenv("TRIMTAB_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("trimtab_client.resources.admin.Admin.usage", answer)
    line = run("usage", "--since", "2026-11-01", "--until", "2026-11-30").splitlines()[-1]
    assert line.split() == ["ci", "key", "3", "500", "1000", "-", "0", "tokens"]
    assert json.loads(run("usage", "--json")) == rows
    assert asked == [("2026-11-01", "2026-11-30"), (None, None)]


def test_status_of_a_schedule_shows_what_it_waits_for() -> None:
    plan = {"name": "schedules.poet", "method": "kto", "deployment": "poet", "recipe": "thumbs"}
    waiting = {"cron": None, "next_at": None, "every_pairs": 50, "rows": "likes", "new_rows": 4}
    assert (
        _schedule_line({**plan, **waiting}) == "schedules.poet: kto of poet, recipe thumbs, 4 of 50 new likes"
    )


def test_reviews_say_which_rows_are_meant() -> None:
    for words in (["pairs"], ["pairs", "pair-1", "--matching"], ["pairs", "pair-1", "--text", "sea"]):
        assert "either ids, or --matching" in run("rows", "exclude", *words, "--reason", "r", status=2)
    assert "accepted: pairs" in run("rows", "list", "votes", status=2)
