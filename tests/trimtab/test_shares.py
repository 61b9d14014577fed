"""What people share, over HTTP and on the command line, and every door that it closes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from store.accounts import keys, sharing, users
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.values import Message
from tests.trimtab.test_people import URL, answers, bearer, build, record, with_canary
from trimtab.app import build_app
from trimtab.cli import app as cli
from trimtab.config.data_sections import PrivacySettings
from trimtab.config.rollout_sections import CanarySettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform
from trimtab.sample_prompts import SAMPLE_PROMPTS

ASK = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return build(tmp_path / "data", canary=CanarySettings(pair=1.0))


def share(client: TestClient, wanted: str | None, **headers: str) -> Any:
    done = client.put("/api/me/share", json={"share": wanted}, headers=headers)
    return done.json() if done.status_code == 200 else done


def test_a_choice_is_kept_until_it_is_taken_back(client: TestClient) -> None:
    assert client.get("/api/me/share").json() == {
        "share": "train",
        "chosen": False,
        "default": "train",
        "name": None,
    }
    assert share(client, "none")["share"] == "none"
    assert client.get("/api/me/share").json()["chosen"] is True
    assert share(client, None) == {"share": "train", "chosen": False, "default": "train", "name": None}


@pytest.mark.parametrize("body", [{"share": "some"}, {"share": True}, {}, {"share": ["none"]}])
def test_a_wrong_choice_is_refused_with_the_accepted_ones(client: TestClient, body: Any) -> None:
    share(client, "show")
    refused = client.put("/api/me/share", json=body)
    assert refused.status_code == 422
    assert refused.json()["field"] == "share"
    if body:
        assert "'none', 'show' or 'train'" in refused.text
    assert client.get("/api/me/share").json()["share"] == "show"


def test_the_setting_holds_for_who_chose_nothing(tmp_path: Path) -> None:
    platform = build(tmp_path / "data", privacy=PrivacySettings(share="none"))
    record(platform.db, "c1", Message("user", "A question"), source="chat", user="ada")
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        assert client.get("/api/me/share").json()["share"] == "none"
        assert client.get("/api/prompts/draw").json()["messages"][0]["content"] in SAMPLE_PROMPTS
        assert client.put("/api/shares", json={"name": "ada", "share": "show"}).status_code == 200
        assert client.get("/api/prompts/draw").json()["messages"][0]["content"] == "A question"
    with pytest.raises(ValueError, match=r"privacy\.share"):
        Settings.model_validate({"privacy": {"share": "some"}})


def test_people_choose_for_themselves_and_operators_for_others(
    client: TestClient, platform: Platform
) -> None:
    db = platform.db
    users.create(db, "ada", ["chat"])
    ada = bearer(keys.create(db, "laptop", ["chat"], "ada")[1])
    program, secret = keys.create(db, "ci", ["chat"])
    ops = bearer(keys.create(db, "root", ["ops"])[1])
    assert share(client, "show", **ada)["name"] == "ada"
    assert share(client, "none", **bearer(secret))["name"] == program.id
    assert share(client, "none", **ops, **{"X-Trimtab-User": "Zoë".encode()})["name"] == "Zoë"  # type: ignore[arg-type]
    assert share(client, "none", **ada, **{"X-Trimtab-User": "bob"}).status_code == 403
    assert client.get("/api/shares", headers=ada).status_code == 403
    put = client.put("/api/shares", json={"name": "bob", "share": "train"}, headers=ops)
    assert put.json() == {"share": "train", "chosen": True, "default": "train", "name": "bob"}
    assert client.put("/api/shares", json={"name": "bob", "share": "none"}, headers=ada).status_code == 403
    assert client.put("/api/shares", json={"name": '"', "share": "none"}, headers=ops).status_code == 422
    listed = {row["name"]: row["share"] for row in client.get("/api/shares", headers=ops).json()}
    assert listed == {"ada": "show", "bob": "train", "Zoë": "none", program.id: "none"}


def test_no_prompt_of_who_shows_nothing_is_drawn_or_compared(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    record(platform.db, "c1", Message("user", "Ada's question"), source="chat", user="ada")
    drawn = client.get("/api/prompts/draw").json()["messages"]
    assert drawn[0]["content"] == "Ada's question"
    made = client.post("/api/comparisons", json={"messages": drawn, "drawn": True}).json()
    assert comparisons.get(platform.db, made["id"]).owners == ("user ada",)
    sharing.choose(platform.db, "user ada", "none")
    assert client.get("/api/prompts/draw").json()["messages"][0]["content"] in SAMPLE_PROMPTS
    for flag in ({"drawn": True}, {}):
        refused = client.post("/api/comparisons", json={"messages": drawn} | flag)
        assert (refused.status_code, "does not share" in refused.text) == (409, True)
    assert client.get("/api/comparisons/next").status_code == 204
    assert client.get(f"/api/comparisons/{made['id']}").status_code == 404
    sharing.choose(platform.db, "user ada", "show")
    assert client.get("/api/comparisons/next").json()["id"] == made["id"]
    assert client.get(f"/api/comparisons/{made['id']}").status_code == 200


@pytest.mark.parametrize(("flag", "owners"), [(False, ("",)), (True, ()), (None, ())])
def test_a_suggested_prompt_is_nobody_s_unless_it_was_typed(
    client: TestClient,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    flag: bool | None,
    owners: tuple[str, ...],
) -> None:
    answers(platform, monkeypatch)
    body = {"messages": [{"role": "user", "content": SAMPLE_PROMPTS[0]}], "drawn": flag}
    made = client.post("/api/comparisons", json=body).json()
    assert comparisons.get(platform.db, made["id"]).owners == owners


def test_what_a_rater_types_is_seen_by_no_other_where_they_show_nothing(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    users.create(platform.db, "ada", ["rater"])
    ada = bearer(keys.create(platform.db, "laptop", ["rater"], "ada")[1])
    rob = bearer(keys.create(platform.db, "rob", ["rater"])[1])
    share(client, "none", **ada)
    made = client.post("/api/comparisons", json=ASK | {"drawn": False}, headers=ada).json()
    path = f"/api/comparisons/{made['id']}"
    assert client.get(path, headers=ada).status_code == 200
    assert client.get(path, headers=rob).status_code == 404
    assert client.get("/api/comparisons/next", headers=rob).status_code == 204
    assert client.post(f"{path}/vote", json={"choice": "a", "better": "Mine."}, headers=ada).is_success


def test_no_pair_is_offered_to_who_shows_nothing(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    with_canary(platform, 1.0)
    ask = ASK | {"deployment": "assistant"}
    assert client.post("/api/comparisons/offer", json=ask).status_code == 201
    share(client, "none")
    assert client.post("/api/comparisons/offer", json=ask).status_code == 204


def test_a_vote_keeps_whose_words_its_rewrite_is(client: TestClient, platform: Platform) -> None:
    made = comparisons.create(platform.db, "Q", [Candidate("yes"), Candidate("no")])
    client.post(f"/api/comparisons/{made.id}/vote", json={"choice": "a", "better": "Mine."})
    found = platform.db.read().execute("select owner from votes").fetchall()
    assert found == [("",)]


def test_shares_on_the_command_line(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(question: Any, data: Any = None) -> Any:
        import asyncio

        import httpx

        from trimtab_client import AsyncClient

        async def run() -> Any:
            transport = httpx.ASGITransport(client.app, client=("127.0.0.1", 5000))
            async with AsyncClient(URL, platform.key, transport=transport) as asking:
                return await question(asking)

        return asyncio.run(run())

    monkeypatch.setattr("trimtab.cli.people.ask", ask)

    def said(*arguments: str) -> Any:
        done = CliRunner().invoke(cli, ["users", "share", *arguments])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    assert said("none", "--json")["share"] == "none"
    assert said("--json")["chosen"] is True
    assert said("default", "--json")["share"] == "train"
    assert said("show", "--user", "ada", "--json")["name"] == "ada"
    assert [row["share"] for row in said("--user", "ada", "--json")] == ["show"]
    assert [row["name"] for row in said("--all", "--json")] == ["ada"]
    wrong = CliRunner().invoke(cli, ["users", "share", "some"])
    assert wrong.exit_code == 2
    assert "none, show, train, default" in wrong.output
