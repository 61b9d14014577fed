"""Training data and raters by the API: refused rows, filters, gold questions, times of votes, redaction."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.gateway.forwarder import Completion
from store.datasets import snapshots
from store.db.rows import scalar
from store.feedback import comparisons, raters
from store.feedback.comparisons import Candidate
from store.privacy import erasure
from store.rollout import adapters, canary_votes, releases, runs
from store.rollout.adapters import AdapterRecord
from trimtab.app import build_platform
from trimtab.config.data_sections import PrivacySettings
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    privacy = PrivacySettings(redact=("email",))
    return build_platform(Settings(data=tmp_path / "data", engines=engines, privacy=privacy), URL)


def test_refused_rows_go_to_a_file(client: TestClient, tmp_path: Path) -> None:
    lines = b'{"prompt": "One?", "chosen": "yes", "rejected": "no"}\n{"prompt": "Two?"}\nbroken\n'
    file = tmp_path / "refused.jsonl"
    done = client.post(f"/api/imports/pairs?rejects={file}", content=lines).json()
    assert done["rejects"] == str(file)
    assert [json.loads(line)["row"] for line in file.read_text().splitlines()] == [2, 3]
    taken = client.post(f"/api/imports/pairs?rejects={file}", content=lines)
    assert (taken.status_code, taken.json()["field"]) == (409, "rejects")


DEEP = '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"
ONE = '{"prompt": "One\u2028?", "chosen": "yes", "rejected": "no"}'


@pytest.mark.parametrize(
    ("noun", "row"),
    [
        ("pairs", {"system": "S", "Question": "Q", "chosen": "a", "rejected": "b", "mood": "x"}),
        ("demonstrations", {"system": "S", "Question": "Q", "answer": "a", "mood": "x"}),
    ],
)
def test_rows_of_the_api_go_by_the_rules_of_files(client: TestClient, noun: str, row: dict[str, str]) -> None:
    done = client.post(f"/api/{noun}", json=[row, row | {"tools": [{"nome": "t"}]}]).json()
    assert (done["accepted"], done["unused_columns"]) == (1, {"mood": 1})
    assert done["rules"] == {"columns_renamed": 1, "prompt_from_column": 1, "system_from_column": 1}
    assert "tools" in done["rejected"][0]["why"]
    [made] = client.get(f"/api/{noun}").json()
    assert [message["role"] for message in made["prompt"]] == ["system", "user"]


def test_name_with_half_a_character_is_escaped(client: TestClient) -> None:
    row = '[{"prompt": "Q", "chosen": "a", "rejected": "b", "c\\ud83d": 1}]'
    done = client.post("/api/pairs", content=row)
    assert done.status_code == 200
    assert done.json()["unused_columns"] == {"c\\ud83d": 1}


@pytest.mark.parametrize("route", ["/api/pairs", "/api/imports/pairs"])
@pytest.mark.parametrize("body", [f"[{ONE}, {DEEP}, {{bad}}]", f"{ONE}\n{DEEP}\nbad\n"])
def test_rows_nested_too_deep_are_refused_and_the_good_ones_kept(
    client: TestClient, route: str, body: str
) -> None:
    done = client.post(route, content=body.encode())
    assert (done.status_code, done.json()["accepted"]) == (200, 1)
    assert [row["row"] for row in done.json()["rejected"]] == [2, 3]
    assert "100 deep" in done.json()["rejected"][0]["why"]


@pytest.mark.parametrize(
    "body", [DEEP, f'{{"rows": [{DEEP}]}}', f"[{ONE}, {DEEP[:-20]}", "not json", "[1, 2"]
)
def test_a_body_that_cannot_be_read_is_a_bad_request(client: TestClient, body: str) -> None:
    refused = client.post("/api/pairs", content=body)
    assert (refused.status_code, refused.json()["field"]) == (400, "body")
    for route in ("/api/comparisons", "/api/runs", "/api/exports/pairs"):
        assert client.post(route, content=DEEP).status_code in (400, 422)


def test_comparison_of_a_person_erased_during_sampling_is_not_stored(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = client.get("/api/whoami").json()["name"]
    comparisons.create(platform.db, "Before?", [Candidate("yes"), Candidate("no")], asked_by=name)
    target, forget = platform.gateway.table.resolve("assistant", "x"), [name]

    async def answer(*_: Any, **__: Any) -> Completion:
        while forget:
            await asyncio.to_thread(erasure.erase_person, platform.db, forget.pop())
        return Completion({"choices": [{"message": {"content": str(uuid.uuid4())}}]}, target)

    monkeypatch.setattr(platform.gateway, "complete", answer)
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    refused = client.post("/api/comparisons", json=asked)
    assert (refused.status_code, refused.json()["title"]) == (409, "Conflict")
    assert scalar(platform.db.read(), "select count(*) from comparisons") == 0
    for drawn, source in ((None, "rank"), (True, "drawn"), (False, "typed")):
        made = client.post("/api/comparisons", json={**asked, "drawn": drawn})
        assert made.status_code == 201
        assert comparisons.get(platform.db, made.json()["id"]).source == source
        assert made.json()["source"] == "rank", "else a gold question would differ from it"


def test_a_comparison_of_named_releases_teaches_their_deployment_alone(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides no canary either: who names the releases chooses what is compared."""
    target = platform.gateway.table.resolve("assistant", "x")

    async def answer(*_: Any, **__: Any) -> Completion:
        return Completion({"choices": [{"message": {"content": str(uuid.uuid4())}}]}, target)

    monkeypatch.setattr(platform.gateway, "complete", answer)
    asked = {
        "messages": [{"role": "user", "content": "Hi"}],
        "releases": ["assistant@1", "assistant@1"],
    }
    for drawn, source in ((None, "rank"), (True, "named"), (False, "typed")):
        made = client.post("/api/comparisons", json={**asked, "drawn": drawn}).json()
        kept = comparisons.get(platform.db, made["id"])
        assert (kept.deployment, kept.source) == ("assistant", source)
        assert source not in canary_votes.DECIDING_SOURCES
        voted = client.post(f"/api/comparisons/{made['id']}/vote", json={"choice": "a"}).json()
        of = scalar(
            platform.db.read(), "select deployment from pairs where id = $id", {"id": voted["pairs"][0]}
        )
        assert of == "assistant"


def test_unknown_person_has_no_lineage_and_cannot_be_erased(client: TestClient, platform: Platform) -> None:
    for method, path in (("GET", "lineage"), ("POST", "erase")):
        assert client.request(method, f"/api/users/nobody/{path}").status_code == 404
    made = comparisons.create(platform.db, "Q", [Candidate("yes"), Candidate("no")])
    comparisons.vote(platform.db, made.id, "a", "ada")
    assert client.get("/api/users/ada/lineage").json() == []
    assert client.post("/api/users/ada/erase").status_code == 200
    for method, path in (("GET", "lineage"), ("POST", "erase")):
        assert client.request(method, f"/api/users/ada/{path}").status_code == 404


def test_exports_are_filtered_by_release_name(client: TestClient, platform: Platform, tmp_path: Path) -> None:
    release = client.get("/api/releases/assistant@1").json()["id"]
    made = comparisons.create(
        platform.db, "Q", [Candidate("good", release=release), Candidate("bad")], "assistant"
    )
    comparisons.vote(platform.db, made.id, "a" if made.a.content == "good" else "b", "ada")
    client.post("/api/pairs", json={"prompt": "Other?", "chosen": "yes", "rejected": "no"})
    wanted = {"file": str(tmp_path / "out.jsonl"), "release": "assistant@1"}
    assert client.post("/api/exports/pairs", json=wanted).json()["rows"] == 1
    assert (
        client.post(
            "/api/exports/pairs", json={**wanted, "file": str(tmp_path / "no"), "release": "assistant@9"}
        ).status_code
        == 404
    )


@pytest.mark.parametrize("noun", ["pairs", "demonstrations", "likes"])
def test_an_export_for_a_deployment_that_there_is_not_is_refused(
    client: TestClient, tmp_path: Path, noun: str
) -> None:
    wanted = {"file": str(tmp_path / "out.jsonl"), "deployment": "nobody"}
    refused = client.post(f"/api/exports/{noun}", json=wanted)
    assert (refused.status_code, refused.json()["field"]) == (404, "deployment")
    assert "assistant" in refused.json()["accepted"]
    assert not (tmp_path / "out.jsonl").exists()


def test_lists_of_a_deployment_that_there_is_not_are_refused(client: TestClient) -> None:
    for path in ("pairs", "demonstrations", "leaderboard", "raters/agreement"):
        assert client.get(f"/api/{path}?deployment=nobody").status_code == 404
        assert client.get(f"/api/{path}?deployment=assistant").status_code == 200


@pytest.mark.parametrize("path", ["exports/pairs", "backup"])
def test_a_file_that_cannot_be_written_is_named_with_the_reason(client: TestClient, path: str) -> None:
    refused = client.post(f"/api/{path}", json={"file": "/proc/x"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("/proc/x cannot be used: ")


def test_a_gold_question_looks_like_any_other_and_measures_raters(
    client: TestClient, platform: Platform
) -> None:
    body = {"messages": [{"role": "user", "content": "2 + 2?"}], "good": "4", "bad": "5", "votes_wanted": 1}
    made = client.post("/api/comparisons/gold", json=body)
    assert made.status_code == 201
    shown = client.get("/api/comparisons/next").json()
    assert shown == made.json()
    assert "gold" not in json.dumps(shown)
    choice = "a" if shown["a"] == "4" else "b"
    voted = client.post(
        f"/api/comparisons/{shown['id']}/vote", json={"choice": choice, "seconds": 3.5}
    ).json()
    assert voted["pairs"] == []
    (row,) = client.get("/api/raters").json()
    assert (row["gold_right"], row["gold_total"], row["median_seconds"]) == (1, 1, 3.5)
    assert client.get("/api/raters/agreement").json() == raters.alpha(platform.db.read())


def test_the_rows_behind_a_release_lead_from_page_to_page(client: TestClient, platform: Platform) -> None:
    db = platform.db
    rows = [{"prompt": f"Question {n}", "chosen": "yes", "rejected": "no"} for n in range(3)]
    client.post("/api/pairs", json=rows)
    snapshot = snapshots.build(db, platform.paths.snapshots, "assistant", "dpo", 0.0, near_duplicates=None)
    run = runs.create(db, "dpo", "assistant")
    runs.update(db, run.id, snapshot=snapshot.id)
    adapters.record(db, AdapterRecord("a-1", "smollm2-135m-instruct", "/a-1", run=run.id))
    releases.create(db, "assistant", "smollm2-135m-instruct", "a-1", run=run.id)
    found, place = [], "/api/releases/assistant@2/lineage/pairs?limit=2"
    while place:
        page = client.get(place)
        found += [row["prompt"][0]["content"] for row in page.json()]
        place = page.links.get("next", {}).get("url", "")
    assert found == [row["prompt"] for row in rows]
    assert client.get("/api/releases/assistant@2/lineage/votes").status_code == 422


def test_what_the_settings_redact_is_never_stored(client: TestClient, platform: Platform) -> None:
    client.post("/api/pairs", json={"prompt": "Mail ada@example.org?", "chosen": "yes", "rejected": "no"})
    assert scalar(platform.db.read(), "select prompt[1].content from pairs") == "Mail [email]?"


def test_candidates_use_the_release_max_tokens_and_store_finish_reasons(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = platform.gateway.table.resolve("assistant", "x")
    asked: list[dict[str, Any]] = []

    async def answer(_: Any, body: dict[str, Any], **__: Any) -> Completion:
        asked.append(body)
        choice = {"message": {"content": str(uuid.uuid4())}, "finish_reason": "length"}
        return Completion({"choices": [choice]}, target)

    monkeypatch.setattr(platform.gateway, "complete", answer)
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    made = client.post("/api/comparisons", json={"messages": messages})
    assert made.status_code == 201
    assert all("max_tokens" not in body for body in asked), "else it would win over the release's own"
    kept = comparisons.get(platform.db, made.json()["id"])
    assert [kept.a.finish_reason, kept.b.finish_reason] == ["length", "length"]
    assert kept.messages[0].role == "developer"


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/api/pairs", {"chosen": "yes", "rejected": "no"}),
        ("/api/demonstrations", {"completion": "yes"}),
    ],
)
def test_next_page_keeps_the_deployment(client: TestClient, path: str, row: dict[str, str]) -> None:
    ours = [{"prompt": f"Ours {n}?", **row} for n in range(3)]
    client.post(f"{path}?deployment=assistant", json=ours)
    first = client.get(path, params={"deployment": "assistant", "limit": 2})
    assert first.links["next"]["url"] == f"{path}?limit=2&after={first.json()[-1]['id']}&deployment=assistant"
    second = client.get(first.links["next"]["url"])
    assert [len(first.json()), len(second.json())] == [2, 1]
    assert "next" not in second.links
