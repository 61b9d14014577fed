"""People over HTTP and on the command line: whose conversations are whose, names, and what raters are shown."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from serve.gateway.forwarder import Completion
from serve.router import share
from store.accounts import keys, users
from store.conversations import conversations
from store.conversations.turn import Turn
from store.db.database import Store
from store.db.rows import scalar
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.privacy import erasure
from store.rollout import deployments, releases
from store.values import Message
from tests.support.asgi import serving
from trimtab.app import build_app, build_platform
from trimtab.cli import app as cli
from trimtab.config.data_sections import RankSettings
from trimtab.config.rollout_sections import CanarySettings
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform
from trimtab.sample_prompts import SAMPLE_PROMPTS
from trimtab_client import AsyncClient

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"
STRANGE = ["..", ".", "a/b", "a/../b", '"ada"', "Zoë", "ZoÃ«", "a b%2Fc", "?x=1#y"]


def build(data: Path, **settings: Any) -> Platform:
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    return build_platform(Settings(data=data, engines=engines, **settings), URL)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return build(tmp_path / "data", canary=CanarySettings(pair=1.0))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def record(db: Store, id: str, *messages: Message, given: str | None = None, **facts: Any) -> None:
    turn = Turn(id, given or f"v-{id}", messages or (Message("user", "Hi"),), "Yes.", "assistant", **facts)
    conversations.record_turns(db, [turn])


def test_who_knows_an_id_does_not_get_at_another_s_conversation(
    client: TestClient, platform: Platform
) -> None:
    db = platform.db
    users.create(db, "ada", ["chat"])
    secrets = {
        "ada": keys.create(db, "laptop", ["chat"], "ada")[1],
        "a key of her name": keys.create(db, "ada", ["chat"])[1],
        "another": keys.create(db, "ci", ["chat"])[1],
        "ops": keys.create(db, "root", ["ops"])[1],
    }
    record(db, "c1", user="ada", given="known", source="chat")
    found = {}
    for who, secret in secrets.items():
        listed = client.get("/api/conversations", headers=bearer(secret)).json()
        read = client.get("/api/conversations/known", headers=bearer(secret)).status_code
        liked = client.post("/api/messages/c1/like", json={"liked": True}, headers=bearer(secret)).status_code
        found[who] = (len(listed), read, liked)
    assert found == {
        "ada": (1, 200, 200),
        "a key of her name": (0, 404, 404),
        "another": (0, 404, 404),
        "ops": (1, 200, 200),
    }


def test_chat_lists_what_chat_began(client: TestClient, platform: Platform) -> None:
    for id, source in (("c1", "chat"), ("c2", "api"), ("c3", "task"), ("c4", "earlier")):
        record(platform.db, id, source=source)
    listed = client.get("/api/conversations", params={"source": ["chat", "earlier"]}).json()
    assert {row["source"] for row in listed} == {"chat", "earlier"}
    assert len(client.get("/api/conversations").json()) == 4


@pytest.mark.parametrize(
    ("sources", "drawn"),
    [(None, {"by chat", "by cli", "by frontend"}), (["api", "garak"], {"by api", "by garak"})],
)
def test_rank_draws_from_what_the_operator_chose(
    tmp_path: Path, sources: list[str] | None, drawn: set[str]
) -> None:
    settings = {} if sources is None else {"rank": RankSettings(sources=sources)}
    platform = build(tmp_path / "data", **settings)
    for source in ("chat", "cli", "frontend", "api", "task", "earlier", "garak"):
        record(platform.db, source, Message("user", f"by {source}"), source=source)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        found = {client.get("/api/prompts/draw").json()["messages"][0]["content"] for _ in range(60)}
    assert found == drawn


def test_a_source_that_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rank\.sources"):
        Settings.model_validate({"rank": {"sources": ["Chat!"]}})


UNFIT = [
    (Message("developer", "Be brief."), Message("user", "Hi")),
    (Message("user", ""),),
    (Message("user", "x" * 200_001),),
    (Message("user", "Hi"), Message("assistant", "")),
    (Message("user", "Hi"), Message("assistant", "Hello")),
    (Message("user", "Hi"), Message("assistant", ""), Message("user", "And?")),
    tuple(Message("user" if n % 2 == 0 else "assistant", "Hi") for n in range(201)),
]


def answers(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the platform's own requests answered; whoever is named in the list is erased meanwhile."""
    gone: list[str] = []

    async def answer(*_: Any, **__: Any) -> Completion:
        while gone:
            await asyncio.to_thread(erasure.erase_person, platform.db, gone.pop())
        target = platform.gateway.table.resolve("assistant", "x")
        return Completion({"choices": [{"message": {"content": str(uuid.uuid4())}}]}, target)

    monkeypatch.setattr(platform.gateway, "complete", answer)
    return gone


def test_no_prompt_is_drawn_that_a_comparison_refuses(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    for n, messages in enumerate(UNFIT):
        record(platform.db, f"c{n}", *messages, source="chat")
    for _ in range(12):
        drawn = client.get("/api/prompts/draw").json()["messages"]
        made = client.post("/api/comparisons", json={"messages": drawn, "drawn": True})
        assert made.status_code == 201, made.text
        assert drawn[-1]["role"] == "user"
        if len(drawn) == 1:
            assert drawn[0]["content"] in SAMPLE_PROMPTS
    record(platform.db, "fit", Message("user", "A question"), source="chat")
    assert {"A question"} <= {
        client.get("/api/prompts/draw").json()["messages"][-1]["content"] for _ in range(60)
    }


def with_canary(platform: Platform, weight: float) -> None:
    release = releases.create(platform.db, "assistant", BASE)
    deployments.set_canary(platform.db, "assistant", release.ref, weight)
    asyncio.run(platform.serving.reconciler.refresh())


def test_pair_of_a_person_erased_during_sampling_is_not_stored(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = answers(platform, monkeypatch)
    name = client.get("/api/whoami").json()["name"]
    comparisons.create(platform.db, "Before?", [Candidate("yes"), Candidate("no")], asked_by=name)
    with_canary(platform, 1.0)
    gone.append(name)
    ask = {"messages": [{"role": "user", "content": "Hi"}], "deployment": "assistant"}
    assert client.post("/api/comparisons/offer", json=ask).status_code == 409
    assert scalar(platform.db.read(), "select count(*) from comparisons") == 0
    assert client.post("/api/comparisons/offer", json=ask).status_code == 201


def test_pair_mode_and_gateway_take_the_same_lane(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(platform, monkeypatch)
    with_canary(platform, 0.5)
    ask = {"messages": [{"role": "user", "content": "Hi"}], "deployment": "assistant"}
    for n in range(6):
        status = 201 if share("assistant", f"Zoë{n}") < 0.5 else 204
        for spelling in (f"Zoë{n}", f"Zoe\u0308{n}"):
            offered = client.post("/api/comparisons/offer", json=ask | {"user": spelling})
            assert offered.status_code == status
            headers = {b"X-Trimtab-User": spelling.encode()}
            assert client.post("/api/comparisons/offer", json=ask, headers=headers).status_code == status  # type: ignore[arg-type]
        status = 201 if share("assistant", f"chat-{n}") < 0.5 else 204
        headers_of_chat = {"X-OpenWebUI-Chat-Id": f"chat-{n}"}
        assert client.post("/api/comparisons/offer", json=ask, headers=headers_of_chat).status_code == status


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_every_stored_name_is_erased_over_http(platform: Platform) -> None:
    for n, name in enumerate(STRANGE):
        record(platform.db, f"c{n}", user=name)
    async with serving(build_app(platform)) as url, AsyncClient(url, platform.key) as client:
        for name in STRANGE:
            if not await asyncio.to_thread(erasure.is_known, platform.db, name):
                continue  # gone with another spelling
            assert (await client.admin.erase_user(name, dry_run=True))["removed"]["conversations"] >= 1
            assert (await client.admin.erase_user(name))["removed"]["conversations"] >= 1
            assert not erasure.is_known(platform.db, name)
        record(platform.db, "again", user="..")
        async with httpx.AsyncClient(trust_env=False, verify=False, headers=bearer(platform.key)) as http:
            done = await http.post(url + "/api/erasures", json={"name": ".."})
            assert (done.status_code, done.json()["removed"]["conversations"]) == (200, 1)
            assert (await http.post(url + "/api/erasures", json={"name": ".."})).status_code == 404
            assert (await http.get(url + "/api/users/a%2Fb/lineage")).status_code == 404


@pytest.mark.parametrize("name", STRANGE)
def test_every_stored_name_is_erased_on_the_command_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    with Store.open(tmp_path / "data" / "trimtab.duckdb") as db:
        record(db, "c1", user=name)
    done = CliRunner().invoke(cli, ["users", "erase", name, "--yes", "--data", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "data" / "trimtab.duckdb") as db:
        assert not erasure.is_known(db, name)


@pytest.mark.parametrize("name", ["a/b", "..", '"ada"', "a b", "x" * 201, ""])
def test_a_user_s_name_that_breaks_the_rule_is_refused(client: TestClient, name: str) -> None:
    refused = client.post("/api/users", json={"name": name, "password": "correct horse"})
    assert (refused.status_code, refused.json()["field"]) == (422, "name")


def test_people_with_names_of_any_script_sign_in(client: TestClient) -> None:
    made = client.post(
        "/api/users", json={"name": "Zoe\u0308", "password": "correct horse", "roles": ["ops"]}
    )
    assert (made.status_code, made.json()["name"]) == (201, "Zoë")
    for name in ("Zoë", "Zoe\u0308"):
        form = {"name": name, "password": "correct horse"}
        assert client.post("/login", data=form, follow_redirects=False).status_code == 303
    assert client.get("/api/whoami").json()["name"] == "Zoë"


def test_key_shows_whether_it_stores(client: TestClient, tmp_path: Path) -> None:
    made = client.post("/api/keys", json={"name": "lm-eval", "roles": ["ops"], "store": False}).json()
    assert made["store"] is False
    listed = client.get("/api/keys", headers=bearer(made["secret"])).json()
    assert [row["store"] for row in listed] == [False]
    (tmp_path / "other").mkdir()
    arguments = ["keys", "create", "lm-eval", "--no-store", "--json", "--data", str(tmp_path / "other")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "other" / "trimtab.duckdb") as db:
        key = keys.find(db, json.loads(done.output)["secret"])
        assert key is not None
        assert not key.stores
