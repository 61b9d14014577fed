"""The list of conversations over HTTP: whose it is, what is refused, and that a deletion ends in an erasure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.accounts import keys, users
from store.conversations import conversation_list, conversations
from store.values import Message
from tests.store.conversations.test_conversation_owners import places_of
from tests.support.asgi import serving
from tests.trimtab.test_people import URL, bearer, build, record
from trimtab.app import build_app
from trimtab.config.data_sections import PrivacySettings
from trimtab.deleted_conversations import erase_due
from trimtab.platform import Platform
from trimtab_client import AsyncClient


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return build(tmp_path / "data", privacy=PrivacySettings(undo_minutes=0))


@pytest.fixture
def people(platform: Platform) -> dict[str, dict[str, str]]:
    """The headers of ada, who has a conversation, of bob, and of an operator."""
    db = platform.db
    for name, role in (("ada", "chat"), ("bob", "chat"), ("root", "ops")):
        users.create(db, name, [role])
    record(db, "c1", Message("user", "ada's plan"), user="ada", given="plan", source="chat")
    record(db, "c2", Message("user", "root asks"), user="root", given="roots", source="chat")
    roles = {"ada": "chat", "bob": "chat", "root": "ops"}
    return {name: bearer(keys.create(db, name, [role], name)[1]) for name, role in roles.items()}


def listed(client: TestClient, who: dict[str, str], **query: Any) -> list[str]:
    return [row["title"] for row in client.get("/api/conversations", params=query, headers=who).json()]


CHANGES = (
    ("PATCH", "", {"title": "Mine"}),
    ("DELETE", "", None),
    ("POST", "/restore", None),
    ("PUT", "/link", None),
    ("GET", "/link", None),
    ("DELETE", "/link", None),
)


def test_a_list_is_changed_by_its_owner_alone(client: TestClient, people: dict[str, Any]) -> None:
    for who in ("bob", "root"):
        for method, rest, body in CHANGES:
            url = f"/api/conversations/plan{rest}"
            done = client.request(method, url, json=body, headers=people[who])
            assert done.status_code == 404, (who, method, rest, done.text)
    ada = people["ada"]
    changed = client.patch("/api/conversations/plan", json={"title": "Plan A", "pinned": True}, headers=ada)
    assert (changed.json()["title"], changed.json()["pinned"], changed.json()["folder"]) == (
        "Plan A",
        True,
        None,
    )
    filed = client.patch("/api/conversations/plan", json={"folder": "Work"}, headers=ada).json()
    assert (filed["title"], filed["pinned"], filed["folder"]) == ("Plan A", True, "Work")
    assert set(listed(client, people["root"])) == {"Plan A", "root asks"}
    assert listed(client, people["root"], mine=True) == ["root asks"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"folder": " "}, "folder"),
        ({"pinned": None}, "pinned"),
        ({"name": "x"}, "name"),
    ],
)
def test_a_wrong_change_names_the_field(
    client: TestClient, people: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    refused = client.patch("/api/conversations/plan", json=body, headers=people["ada"])
    assert (refused.status_code, refused.json()["field"]) == (422, field)


def test_a_link_is_read_by_whoever_signs_in_and_shows_the_conversation_alone(
    client: TestClient, people: dict[str, Any], platform: Platform
) -> None:
    conversations.like(platform.db, "c1", True, "ada")
    made = client.put("/api/conversations/plan/link", headers=people["ada"]).json()
    assert client.get("/api/conversations/plan/link", headers=people["ada"]).json() == made
    assert made["path"] == f"/?shared={made['token']}"
    url = f"/api/shared/{made['token']}"
    read = client.get(url, headers=people["bob"]).json()
    assert set(read) == {"title", "messages"}
    assert [(m["role"], m["content"]) for m in read["messages"]] == [
        ("user", "ada's plan"),
        ("assistant", "Yes."),
    ]
    assert not {"liked", "completion_id", "versions"} & set(read["messages"][1])
    assert client.get(url).status_code == 401
    assert client.get("/api/conversations/plan", headers=people["bob"]).status_code == 404
    assert client.delete("/api/conversations/plan/link", headers=people["ada"]).status_code == 204
    assert client.get(url, headers=people["bob"]).status_code == 404
    assert client.get("/api/shared/none", headers=people["bob"]).status_code == 404


def test_a_deleted_conversation_is_restored_or_erased(platform: Platform) -> None:
    async def delete_and_restore() -> None:
        async with serving(build_app(platform)) as url, AsyncClient(url, platform.key) as client:
            for id in ("c1", "c2"):
                gone = await client.chat.delete_conversation(id)
                assert gone["erased_at"] == gone["deleted_at"], "the time to undo is set to nothing"
            assert await client.chat.conversations() == []
            assert len(await client.chat.conversations(deleted=True)) == 2
            await client.chat.restore_conversation("c2")
            assert await erase_due(platform) == ["c1"]
            assert await erase_due(platform) == []
            assert [row["title"] for row in await client.chat.conversations()] == ["a recipe"]
            assert await client.chat.conversations(deleted=True) == []

    for id, text in (("c1", "ada's plan"), ("c2", "a recipe")):
        record(platform.db, id, Message("user", text), given=id, source="chat")
    asyncio.run(delete_and_restore())
    assert places_of(platform.db, "ada's plan") == []


def test_the_platform_erases_what_is_due(platform: Platform) -> None:
    record(platform.db, "c1", Message("user", "my plan"), given="plan", source="chat")
    conversation_list.delete(platform.db, "plan", "")
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        until(lambda: client.get("/api/conversations?deleted=true").json() == [])
        assert places_of(platform.db, "my plan") == []


def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
