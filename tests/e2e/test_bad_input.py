"""Bad input on the running platform: each a clear error with the right status, nothing half-written."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.platform import PlatformProcess

pytestmark = pytest.mark.engine

HELLO = [{"role": "user", "content": "Hello"}]


def problem(platform: PlatformProcess, method: str, path: str, status: int, **kwargs: Any) -> dict[str, Any]:
    """The problem details of a request that must fail with `status`."""
    response = platform.request(method, path, **kwargs)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return dict(body)


def openai_error(platform: PlatformProcess, body: Any, status: int, **kwargs: Any) -> dict[str, Any]:
    """The error of a chat completion that must fail with `status`."""
    response = platform.request("POST", "/v1/chat/completions", **({"json": body} | kwargs))
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return dict(error)


def test_an_unknown_model(platform: PlatformProcess) -> None:
    error = openai_error(platform, {"model": "gpt-9", "messages": HELLO}, 404)
    assert error["param"] == "model"
    assert "assistant" in error["message"]


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ("hello", "messages"),
        ([], "messages"),
        ([{"role": "wizard", "content": "x"}], "role"),
        ([{"content": "x"}], "role"),
        ([{"role": "user"}], "content"),
        (None, "messages"),
    ],
)
def test_malformed_messages(platform: PlatformProcess, messages: Any, named: str) -> None:
    error = openai_error(platform, {"model": "assistant", "messages": messages}, 400)
    assert named in (error["param"] or "") + error["message"]


def test_a_body_that_is_not_json(platform: PlatformProcess) -> None:
    openai_error(
        platform, None, 400, json=None, content=b"{nope", headers={"content-type": "application/json"}
    )
    problem(
        platform, "POST", "/api/runs", 400, content=b"{nope", headers={"content-type": "application/json"}
    )


def test_votes_that_cannot_be(platform: PlatformProcess) -> None:
    problem(platform, "POST", "/api/comparisons/cmp-nowhere/vote", 404, json={"choice": "a"})
    made = platform.post("/api/comparisons", {"messages": HELLO, "sampling": {"max_tokens": 8}})
    path = f"/api/comparisons/{made['id']}/vote"
    fault = problem(platform, "POST", path, 422, json={"choice": "c"})
    assert fault["field"] == "choice"
    assert "both_bad" in fault["accepted"]
    fault = problem(platform, "POST", path, 422, json={"choice": "a", "colour": 1})
    assert fault["field"] == "colour"
    assert platform.post(path, {"choice": "both_bad"})["choice"] == "both_bad"
    assert "decided" in problem(platform, "POST", path, 409, json={"choice": "a"})["detail"]


def test_a_run_without_data(platform: PlatformProcess) -> None:
    before = platform.get("/api/runs")
    assert platform.get("/api/status")["demonstrations"]["total"] == 0
    fault = problem(platform, "POST", "/api/runs", 409, json={"method": "sft"})
    assert "nothing to train on" in fault["detail"]
    assert platform.get("/api/runs") == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"method": "ppo"}, "method"),
        ({}, "method"),
        ({"method": "dpo", "rollout": "yes"}, "rollout"),
        ({"method": "dpo", "params": {"learning_rat": 1}}, "params.learning_rat"),
        ({"method": "dpo", "params": {"r": 4096}}, "params.r"),
        ({"method": "dpo", "qlora": "perhaps"}, "qlora"),
    ],
)
def test_a_run_with_a_wrong_field(platform: PlatformProcess, body: Any, field: str) -> None:
    before = len(platform.get("/api/runs"))
    fault = problem(platform, "POST", "/api/runs", 422, json=body)
    assert fault["field"] == field
    assert len(platform.get("/api/runs")) == before


def test_names_that_do_not_exist(platform: PlatformProcess) -> None:
    for path in (
        "runs/run-x",
        "releases/assistant@99",
        "releases/nobody@1",
        "evals/eval-x",
        "deployments/nobody",
    ):
        problem(platform, "GET", f"/api/{path}", 404)
    problem(
        platform,
        "POST",
        "/api/deployments/assistant/canary",
        404,
        json={"release": "assistant@99", "weight": 0.1},
    )
    problem(platform, "POST", "/api/runs/run-x/cancel", 404)
    problem(platform, "GET", "/api/nothing/here", 404)


def test_a_canary_weight_out_of_range(platform: PlatformProcess) -> None:
    body = {"release": "assistant@1", "weight": 1.5}
    assert problem(platform, "POST", "/api/deployments/assistant/canary", 422, json=body)["field"] == "weight"


def test_an_adapter_that_is_none(platform: PlatformProcess, tmp_path: Path) -> None:
    before = platform.get("/api/releases")
    fault = problem(
        platform, "POST", "/api/releases", 422, json={"deployment": "assistant", "adapter": str(tmp_path)}
    )
    assert fault["field"] == "adapter"
    assert platform.get("/api/releases") == before


def test_bad_rows_of_an_import_stop_nothing(platform: PlatformProcess) -> None:
    rows = [
        {"prompt": "A question of this test?", "chosen": "yes", "rejected": "no"},
        {"prompt": "no answers"},
        "not a row",
        {"prompt": "A question of this test?", "chosen": "yes", "rejected": "no"},
    ]
    done = platform.post("/api/pairs", rows)
    assert (done["accepted"], done["duplicates"]) == (1, 1)
    assert [row["row"] for row in done["rejected"]] == [2, 3]


def test_other_pages_of_the_web_are_kept_away(platform: PlatformProcess) -> None:
    assert platform.request("GET", "/api/status", headers={"host": "evil.example"}).status_code == 403
    assert (
        platform.request("GET", "/api/status", headers={"origin": "http://evil.example"}).status_code == 403
    )


def up(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = str(Path(__import__("sys").executable).parent / "trimtab")
    return subprocess.run(
        [command, "up", *arguments], capture_output=True, text=True, cwd=cwd, timeout=90, check=False
    )


def test_a_port_in_use(platform: PlatformProcess, tmp_path: Path) -> None:
    port = platform.url.rpartition(":")[2]
    ended = up("--data", str(tmp_path / "d"), "--port", port, cwd=tmp_path)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in ended.stderr
    assert "--port" in ended.stderr
    assert not (tmp_path / "d").exists()


def test_a_second_platform_on_the_same_data(platform: PlatformProcess, tmp_path: Path) -> None:
    ended = up("--data", str(platform.data), "--port", "0", cwd=tmp_path)
    assert ended.returncode == 1
    assert platform.process is not None
    assert f"process {platform.process.pid}" in ended.stderr
    assert platform.get("/api/status")["ready"]


def test_an_unknown_setting(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text("[server]\nprot = 1\n")
    ended = up("--data", str(tmp_path / "d"), cwd=tmp_path)
    assert ended.returncode == 2
    assert "server.prot" in ended.stderr
    assert "did you mean 'port'" in ended.stderr
    assert not (tmp_path / "d").exists()


def test_listening_beyond_this_machine_needs_somebody_to_sign_in(tmp_path: Path) -> None:
    ended = up("--data", str(tmp_path / "d"), "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
    assert ended.returncode == 1
    assert "trimtab users add" in ended.stderr
