"""The operations API in process: roles, errors, people, rollouts. Its engine is one that never answers."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from typer.testing import CliRunner

from store.accounts import users
from store.rollout import adapters, deployments, releases, runs
from store.rollout.adapters import AdapterRecord
from store.training_data import demonstrations
from tests.trimtab.conftest import BASE, URL, problem
from trimtab import ui_mount
from trimtab.app import build_app, build_platform
from trimtab.cli import app, schedule
from trimtab.config.settings import Settings
from trimtab.platform import Platform


def test_a_run_whose_canary_is_on_trial_is_no_longer_active(client: TestClient, platform: Platform) -> None:
    training, canary = (runs.create(platform.db, "dpo", "assistant") for _ in range(2))
    for state in ("snapshot", "training"):
        runs.move(platform.db, training.id, state)
    for state in ("snapshot", "training", "publishing", "evaluating", "canary"):
        runs.move(platform.db, canary.id, state)
    assert client.get("/api/status").json()["active_runs"] == [training.id]
    assert "canary" in problem(client.post(f"/api/runs/{canary.id}/cancel"), 409)["detail"]


def test_the_platform_answers_while_its_engine_does_not(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.headers["Retry-After"]
    assert "engine main" in ready.json()["missing"][0]
    status = client.get("/api/status").json()
    assert (status["mode"], status["ready"]) == ("single-user", False)
    assert status["deployments"][0]["stable"] == "assistant@1"


def test_status_shows_every_schedule(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "data": tmp_path / "data",
            "engines": {"main": {"base": BASE, "url": "http://127.0.0.1:9", "api_key": "none"}},
            "deployments": {"assistant": {}, "poet": {}},
            "schedules": {
                "poet": {
                    "deployment": "poet",
                    "method": "sft",
                    "every_pairs": 5,
                    "recipe": "domain-adaptation",
                }
            },
        }
    )
    platform = build_platform(settings, URL)
    demonstrations.import_rows(platform.db, [{"prompt": "q", "completion": "a"}], "test", deployment="poet")
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        status = client.get("/api/status").json()
    assert (status["schedule"]["name"], status["schedule"]["enabled"]) == ("schedule", False)
    (poet,) = status["schedules"]
    assert (poet["name"], poet["deployment"], poet["recipe"]) == (
        "schedules.poet",
        "poet",
        "domain-adaptation",
    )
    assert (poet["rows"], poet["new_rows"], poet["new_pairs"]) == ("demonstrations", 1, 0)


def test_preview_of_schedules_says_what_each_waits_for_and_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = {"base": BASE, "url": "http://127.0.0.1:9", "api_key": "none"}
    nights = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "windows": ["22:00-06:00"]}
    found = {"data": tmp_path / "data", "engines": {"main": engine}, "schedules": {"nights": nights}}
    platform = build_platform(Settings.model_validate(found), URL)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        (plan,) = client.get("/api/schedule/preview?count=3").json()
        refused = problem(client.get("/api/schedule/preview?count=0"), 422)
    assert "count" in str(refused)
    assert (plan["name"], plan["timezone"], len(plan["planned"])) == ("schedules.nights", "Europe/Berlin", 3)
    assert plan["says"].startswith("waits ")
    assert "for a cron moment with new pairs: there are none since the last snapshot" in plan["says"]
    monkeypatch.setattr(schedule, "ask", lambda call, data: [plan])
    shown = CliRunner().invoke(app, ["schedule", "preview"]).output
    assert "schedules.nights: dpo of assistant, 0 new pairs; waits" in shown
    assert shown.count(" 03:00") == 3
    monkeypatch.setattr(schedule, "ask", lambda call, data: [])
    assert "no schedule is on" in CliRunner().invoke(app, ["schedule", "preview"]).output


def test_pages_wait_for_the_screens(client: TestClient) -> None:
    for path in ("/", "/rank", "/ops"):
        page = client.get(path, headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "Trimtab" in page.text
    deadline = time.monotonic() + 10
    while gc.get_freeze_count() < 100_000:  # what a full collection leaves out
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_screens_that_cannot_open_say_so_and_the_rest_answers(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(url: str) -> FastAPI:
        raise ImportError("no Gradio here")

    monkeypatch.setattr(ui_mount, "_build", broken)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        page = client.get("/")
        assert page.status_code == 503
        assert "ImportError" in page.text
        assert client.get("/healthz").status_code == 200


def test_chat_without_an_engine_says_when_to_come_back(client: TestClient) -> None:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_other_web_pages_are_kept_from_the_hot_path_too(client: TestClient, path: str) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert client.post(path, json={}, headers=headers).status_code == 403


def test_the_documents_of_the_api_need_no_other_host(client: TestClient) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://fastapi", "")
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/runs", "/api/comparisons/{comparison_id}/vote", "/api/leaderboard"} <= set(paths)


def test_a_rejected_release_takes_no_traffic_without_a_reason(client: TestClient, platform: Platform) -> None:
    run = runs.create(platform.db, "dpo", "assistant")
    release = releases.create(platform.db, "assistant", BASE, run=run.id)
    for state in ("snapshot", "training", "publishing", "evaluating", "rejected"):
        runs.move(platform.db, run.id, state)
    for action, more in (("promote", {}), ("canary", {"weight": 0.1})):
        body = {"release": release.ref} | more
        refused = problem(client.post(f"/api/deployments/assistant/{action}", json=body), 422)
        assert refused["field"] == "reason"
        assert release.ref in refused["accepted"]
    assert client.get("/api/deployments/assistant").json()["stable"] == "assistant@1"
    forced = {"release": release.ref, "reason": "checked by hand"}
    assert client.post("/api/deployments/assistant/promote", json=forced).json()["stable"] == release.ref
    (row,) = [row for row in client.get("/api/audit").json() if row["action"] == "deployment.force"]
    assert row["detail"] == forced | {"as": "promote"}


def test_rollouts_move_the_traffic_and_are_audited(client: TestClient, platform: Platform) -> None:
    made = client.post("/api/releases", json={"deployment": "assistant", "system_prompt": "Be brief."})
    assert made.status_code == 201
    assert made.json()["name"] == "assistant@2"
    canary = client.post(
        "/api/deployments/assistant/canary", json={"release": "assistant@2", "weight": 0.25}
    ).json()
    assert (canary["stable"], canary["canary"], canary["weight"]) == ("assistant@1", "assistant@2", 0.25)
    assert client.get("/api/releases/assistant@2").json()["lane"] == "canary"
    promoted = client.post("/api/deployments/assistant/promote").json()
    assert (promoted["stable"], promoted["canary"], promoted["previous"]) == (
        "assistant@2",
        None,
        "assistant@1",
    )
    back = client.post("/api/deployments/assistant/rollback").json()
    assert back["stable"] == "assistant@1"
    actions = [row["action"] for row in client.get("/api/audit").json()]
    assert len([action for action in actions if "rollback" in action]) == 1
    problem(client.post("/api/deployments/assistant/promote"), 409)
    names = [card["id"] for card in client.get("/v1/models").json()["data"]]
    assert names == ["assistant", "assistant@2", "assistant@1", BASE]


def test_what_a_new_release_leaves_out_comes_from_stable(client: TestClient, platform: Platform) -> None:
    for name in ("a-0000000000000001", "a-0000000000000002"):
        adapters.record(platform.db, AdapterRecord(hash=name, base=BASE, path="nowhere"))
    own = {"system_prompt": "Be brief.", "sampling": {"temperature": 0.2, "max_tokens": 90}}
    stable = releases.create(platform.db, "assistant", BASE, adapter="a-0000000000000001", **own)
    deployments.promote(platform.db, "assistant", "test", stable.ref)
    whole = {"adapter": "a-0000000000000001", **own}

    def make(**given: Any) -> dict[str, Any]:
        answer = client.post("/api/releases", json={"deployment": "assistant", **given})
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        assert body["inherited_from"] == stable.ref
        return body

    def part(body: dict[str, Any]) -> dict[str, Any]:
        return {name: body[name] for name in whole}

    made = make(adapter="a-0000000000000002")
    assert part(made) == {**whole, "adapter": "a-0000000000000002"}
    assert made["inherited"] == ["system_prompt", "sampling"]
    made = make(system_prompt="Rhyme.")
    assert part(made) == {**whole, "system_prompt": "Rhyme."}
    assert made["inherited"] == ["adapter", "sampling"]
    assert part(make(sampling={"temperature": 0})) == {**whole, "sampling": {"temperature": 0}}
    assert part(make()) == whole
    for empty in (None, "none", "None", ""):
        made = make(adapter=empty, system_prompt=empty, sampling=empty)
        assert part(made) == {"adapter": None, "system_prompt": None, "sampling": {}}
        assert made["inherited"] == []
    assert make(sampling={})["sampling"] == {}
    assert client.get(f"/api/releases/{stable.ref}").json()["inherited"] is None


def test_an_adapter_is_not_inherited_by_another_base(client: TestClient, platform: Platform) -> None:
    adapters.record(platform.db, AdapterRecord(hash="a-0000000000000001", base="other", path="nowhere"))
    stable = releases.create(
        platform.db, "assistant", "other", adapter="a-0000000000000001", system_prompt="Be brief."
    )
    deployments.promote(platform.db, "assistant", "test", stable.ref)
    body = {"deployment": "assistant", "base": BASE}
    made = client.post("/api/releases", json=body).json()
    assert (made["base"], made["adapter"], made["system_prompt"]) == (BASE, None, "Be brief.")
    assert made["inherited"] == ["system_prompt"]


def test_a_release_of_an_adapter_of_another_base_is_refused(client: TestClient, platform: Platform) -> None:
    adapters.record(platform.db, AdapterRecord(hash="a-0000000000000000", base="other", path="nowhere"))
    body = {"deployment": "assistant", "adapter": "a-0000000000000000"}
    fault = problem(client.post("/api/releases", json=body), 422)
    assert fault["field"] == "adapter"
    assert "other" in fault["detail"]
    fault = problem(client.post("/api/releases", json={"deployment": "assistant", "base": "other"}), 422)
    assert (fault["field"], fault["accepted"]) == ("base", BASE)
    assert len(releases.list_all(platform.db)) == 1


ROUTES = [
    ("GET", "/api/status", "rater"),
    ("GET", "/api/whoami", "chat"),
    ("GET", "/api/runs", "ops"),
    ("POST", "/api/runs", "ops"),
    ("GET", "/api/pairs", "rater"),
    ("POST", "/api/pairs", "ops"),
    ("GET", "/api/releases", "rater"),
    ("POST", "/api/releases", "ops"),
    ("POST", "/api/deployments/assistant/rollback", "ops"),
    ("GET", "/api/keys", "ops"),
    ("GET", "/api/users", "ops"),
    ("GET", "/api/audit", "ops"),
    ("GET", "/api/usage", "ops"),
    ("GET", "/api/conversations", "chat"),
    ("GET", "/api/comparisons/next", "rater"),
    ("POST", "/api/backup", "ops"),
]
LEVELS = ("chat", "rater", "ops")


def test_every_route_asks_for_its_role(client: TestClient, platform: Platform) -> None:
    keys: dict[str, str] = {}
    users.create(platform.db, "ada", ["ops"], "correct horse")  # ends single-user mode
    admin = {"Authorization": f"Bearer {platform.key}"}
    for role in LEVELS:
        made = client.post("/api/keys", json={"name": role, "roles": [role]}, headers=admin)
        keys[role] = made.json()["secret"]
    for method, path, needed in ROUTES:
        problem(client.request(method, path), 401)
        for role in LEVELS:
            answer = client.request(method, path, headers={"Authorization": f"Bearer {keys[role]}"}, json={})
            if LEVELS.index(role) < LEVELS.index(needed):
                problem(answer, 403)
            else:
                assert answer.status_code not in (401, 403, 500), (method, path, role, answer.text)


def test_a_revoked_key_is_refused_at_once(client: TestClient) -> None:
    admin = client.post("/api/keys", json={"name": "admin", "roles": ["ops"]}).json()
    headers = {"Authorization": f"Bearer {admin['secret']}"}
    key = client.post("/api/keys", json={"name": "ci", "roles": ["chat"]}, headers=headers).json()
    assert "secret" not in str(client.get("/api/keys", headers=headers).json()).replace("'secret': None", "")
    theirs = {"Authorization": f"Bearer {key['secret']}"}
    assert client.get("/api/whoami", headers=theirs).json()["name"] == "ci"
    assert client.delete(f"/api/keys/{key['id']}", headers=headers).status_code == 204
    problem(client.get("/api/whoami", headers=theirs), 401)


def test_people_sign_in_and_out(client: TestClient) -> None:
    body = {"name": "ada", "roles": ["ops"], "password": "correct horse"}
    assert client.post("/api/users", json=body).status_code == 201
    page = client.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    assert client.get("/config", follow_redirects=False).status_code == 401
    wrong = client.post("/login", data={"name": "ada", "password": "wrong"})
    assert wrong.status_code == 401
    assert "do not go together" in wrong.text
    right = client.post("/login", data={"name": "ada", "password": "correct horse"}, follow_redirects=False)
    assert right.status_code == 303
    assert "HttpOnly" in right.headers["set-cookie"]
    assert client.get("/api/whoami").json() == {"name": "ada", "roles": ["ops"], "mode": "multi-user"}
    assert client.get("/", headers={"accept": "text/html"}).status_code == 200
    client.post("/logout")
    problem(client.get("/api/whoami"), 401)


def test_files_come_in_and_go_out(client: TestClient, tmp_path: Path) -> None:
    lines = b'{"prompt": "One?", "chosen": "yes", "rejected": "no"}\n{"prompt": "Two?"}\nbroken\n'
    dry = client.post("/api/imports/pairs?dry_run=true", content=lines).json()
    assert (dry["accepted"], dry["rejected_count"]) == (1, 2)
    assert client.get("/api/pairs").json() == []
    done = client.post("/api/imports/pairs?name=votes.jsonl", content=lines).json()
    assert (done["accepted"], done["container"]) == (1, "jsonl")
    assert [row["row"] for row in done["rejected"]] == [2, 3]
    (pair,) = client.get("/api/pairs").json()
    assert (pair["chosen"], pair["rejected"], pair["source"]) == ("yes", "no", "votes.jsonl")
    out = tmp_path / "out.jsonl"
    assert client.post("/api/exports/pairs", json={"file": str(out)}).json()["rows"] == 1
    assert client.post("/api/imports/pairs", content=out.read_bytes()).json()["duplicates"] == 1
    problem(client.post("/api/exports/pairs", json={"file": str(out)}), 409)
    problem(client.post("/api/imports/pairs?format=morse", content=lines), 422)


def test_a_backup_is_whole_and_never_overwrites(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "backup.duckdb"
    made = client.post("/api/backup", json={"file": str(file)})
    assert made.status_code == 201
    assert made.json()["bytes"] == file.stat().st_size
    problem(client.post("/api/backup", json={"file": str(file)}), 409)
    assert (
        problem(client.post("/api/backup", json={"file": str(tmp_path / "no" / "x")}), 422)["field"] == "file"
    )


def test_pages_of_pairs_are_linked(client: TestClient) -> None:
    rows = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(5)]
    assert client.post("/api/pairs", json={"rows": rows}).json()["accepted"] == 5
    seen, path = [], "/api/pairs?limit=2"
    while path:
        answer = client.get(path)
        seen += [row["id"] for row in answer.json()]
        path = answer.links.get("next", {}).get("url", "")
    assert len(seen) == len(set(seen)) == 5
