"""What the headers of a chat request decide: conversation, lane, person, source, and whether it is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.build import ServingOptions
from serve.router import share, sticky_key
from store.accounts import keys, sharing, users
from store.accounts.owners import owner_of
from store.conversations import conversations, stored_conversations
from store.db.rows import scalar
from store.privacy import erasure
from store.rollout import deployments, releases
from tests.serve.gateway_harness import KEY, Part, running
from tests.support import stub_engine

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def part(stub_part: Part) -> Part:
    return stub_part


async def ask(
    part: Part, headers: dict[str, Any] | None = None, key: str = KEY, text: str = "say 2", **more: Any
) -> httpx.Response:
    body = {"model": "assistant", "messages": [{"role": "user", "content": text}], "stream": True, **more}
    raw = {"Authorization": f"Bearer {key}", **(headers or {})}
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
        answer = await http.post(
            part.url + CHAT,
            json=body,
            headers={k: v if isinstance(v, bytes) else v.encode() for k, v in raw.items()},
        )
    await part.recorder.flush()
    return answer


def rows(part: Part) -> int:
    return int(scalar(part.db.read(), "select count(*) from completions"))


@pytest.mark.parametrize(
    "name", ["X-Trimtab-Conversation", "X-OpenWebUI-Chat-Id", "X-Conversation-Id", "X-Session-Id"]
)
async def test_a_front_end_s_conversation_header_decides_the_lane(part: Part, name: str) -> None:
    release = releases.create(part.db, "assistant", stub_engine.MODEL)
    deployments.set_canary(part.db, "assistant", release.ref, 0.5)
    await part.reconciler.refresh()
    try:
        lanes = set()
        for n in range(8):
            answer = await ask(part, {name: f"{name}-{n}"})
            lane = "canary" if share("assistant", f"{name}-{n}") < 0.5 else "stable"
            assert answer.headers["x-trimtab-lane"] == lane
            assert answer.headers["x-trimtab-conversation"] == f"{name}-{n}"
            assert stored_conversations.get(part.db, f"{name}-{n}").source == "frontend"
            lanes.add(lane)
        assert lanes == {"canary", "stable"}
    finally:
        deployments.rollback(part.db, "assistant", "test")
        await part.reconciler.refresh()


def test_the_sticky_key_is_the_first_thing_known() -> None:
    assert sticky_key("conv", "named", "ada", "key-1", "ci") == "conv"
    assert sticky_key(None, "named", "ada", "key-1", "ci") == "named"
    assert sticky_key(None, None, "ada", "key-1", "ci") == "ada"
    assert sticky_key(None, None, None, "key-1", "ci") == "key-1"
    assert sticky_key(None, "", None, None, "local") == "local"


async def test_what_is_asked_to_be_left_out_is_left_out(part: Part) -> None:
    users.create(part.db, "root", ["ops"])
    _, quiet = keys.create(part.db, "lm-eval", ["chat"], stores=False)
    await asyncio.sleep(1.1)  # single-user mode is looked up once a second
    before = rows(part)
    assert (await ask(part, {"X-Trimtab-Store": "false"})).status_code == 200
    assert (await ask(part, {"X-Trimtab-Store": "true"}, key=quiet)).status_code == 200
    assert rows(part) == before
    assert (await ask(part, {"X-Trimtab-Store": "True"})).status_code == 200
    assert rows(part) == before + 1
    refused = await ask(part, {"X-Trimtab-Store": "perhaps"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-trimtab-store")
    assert refused.json()["error"]["accepted"] == ["true", "false"]


@pytest.mark.parametrize(
    ("headers", "text", "source", "task"),
    [
        ({}, "say 1", "api", None),
        ({"X-Trimtab-Task": ""}, "say 1", "api", None),
        ({"X-OpenWebUI-Chat-Id": "chat-1", "X-Trimtab-Task": ""}, "say 1", "frontend", None),
        ({"X-OpenWebUI-Chat-Id": "chat-1", "X-Trimtab-Task": "tags"}, "say 1", "task", "tags"),
        ({"X-OpenWebUI-Chat-Id": "chat-1", "X-OpenWebUI-Task": "title"}, "say 1", "task", "title"),
        ({"X-OpenWebUI-Chat-Id": "chat-1"}, "### Task:\nGenerate a title", "task", "open-webui"),
        ({"X-Trimtab-Source": "chat"}, "say 1", "chat", None),
        ({"X-Trimtab-Source": "our-portal", "X-Trimtab-Conversation": "p"}, "say 1", "our-portal", None),
    ],
)
async def test_conversation_records_its_source(
    part: Part, headers: dict[str, str], text: str, source: str, task: str | None
) -> None:
    assert (await ask(part, headers, text=text)).status_code == 200
    newest = stored_conversations.list_recent(part.db, limit=1)[0]
    assert (newest.source, newest.task) == (source, task)


async def test_a_task_stays_out_of_the_conversation_beside_it(part: Part) -> None:
    chat = {"X-OpenWebUI-Chat-Id": "with-title"}
    await ask(part, chat)
    answer = await ask(part, chat | {"X-Trimtab-Task": "title_generation"}, text="say 3")
    assert answer.headers["x-trimtab-conversation"] == "with-title"
    assert stored_conversations.get(part.db, "with-title").messages[0].content == "say 2"
    assert conversations.recent_prompts(part.db, sources=["frontend"])[0][0].content == "say 2"


async def test_no_key_gets_into_another_s_conversation(part: Part) -> None:
    made = [keys.create(part.db, name, ["chat"]) for name in ("one", "two")]
    for (_, secret), text in zip(made, ("say 1", "say 3"), strict=True):
        answer = await ask(part, {"X-Trimtab-Conversation": "known-id"}, key=secret, text=text)
        assert answer.headers["x-trimtab-conversation"] == "known-id"
    for (key, _), text in zip(made, ("say 1", "say 3"), strict=True):
        mine = stored_conversations.get(part.db, "known-id", owner_of(None, key.id))
        assert mine.messages[0].content == text
        assert len(mine.messages) == 2


@pytest.mark.parametrize(
    "value",
    ["Zoë".encode(), "Zoe\u0308".encode(), "Zoë".encode("latin-1"), b"Zo%C3%AB", b"Zoe%CC%88"],
    ids=["UTF-8", "decomposed", "Latin-1", "percent-encoded", "decomposed and percent-encoded"],
)
async def test_a_name_has_one_spelling(part: Part, value: bytes) -> None:
    assert (await ask(part, {"X-Trimtab-User": value})).status_code == 200
    assert stored_conversations.list_recent(part.db, limit=1)[0].user == "Zoë"
    assert erasure.erase_person(part.db, "Zoe\u0308").removed["completions"] == 1
    assert not erasure.is_known(part.db, "Zoë")


@pytest.mark.parametrize(
    "value", ["a/b", "..", ".", '"ada"', "%2e%2e", "a%2Fb", "a\tb", "-x", "x" * 201, "%FF"]
)
async def test_a_name_that_breaks_the_rule_is_refused(part: Part, value: str) -> None:
    before = rows(part)
    answer = await ask(part, {"X-Trimtab-User": value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-trimtab-user")
    assert rows(part) == before


@pytest.mark.parametrize("source", ["Chat", "a b", "x" * 41, "-"])
async def test_a_source_that_breaks_the_rule_is_refused(part: Part, source: str) -> None:
    answer = await ask(part, {"X-Trimtab-Source": source})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-trimtab-source")


async def test_raters_are_shown_no_copy_of_a_program_s_traffic(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ServingOptions(shadow_fraction=1.0, shadow_sources=["chat", "frontend"])
    async with running(part.pool, tmp_path, stub_engine.MODEL, options=options) as shadowed:
        release = releases.create(shadowed.db, "assistant", stub_engine.MODEL)
        deployments.set_canary(shadowed.db, "assistant", release.ref, 0.0)
        await shadowed.reconciler.refresh()
        copied: list[str] = []

        async def copy(stable: Any, canary: Any, body: Any, exchange: Any) -> None:
            copied.append(exchange.request.source)

        monkeypatch.setattr(shadowed.parts.shadow, "_copy", copy)
        for headers in ({}, {"X-Trimtab-Task": "tags"}, {"X-Trimtab-Source": "chat"}, {"X-Chat-Id": "c"}):
            await ask(shadowed, headers)
        assert sorted(copied) == ["chat", "frontend"]


@pytest.mark.parametrize(("chosen", "compared"), [("none", 0), ("show", 1)])
async def test_raters_are_shown_no_copy_of_what_is_not_shared(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: sharing.Share, compared: int
) -> None:
    options = ServingOptions(shadow_fraction=1.0)
    async with running(part.pool, tmp_path, stub_engine.MODEL, options=options) as shadowed:
        release = releases.create(shadowed.db, "assistant", stub_engine.MODEL)
        deployments.set_canary(shadowed.db, "assistant", release.ref, 0.0)
        await shadowed.reconciler.refresh()
        sharing.choose(shadowed.db, owner_of("ada", None), chosen)
        shadow = shadowed.parts.shadow
        assert shadow is not None
        engine = shadow._ask

        async def other_words(target: Any, body: Any) -> Any:
            answer = await engine(target, body)
            answer.body["choices"][0]["message"]["content"] = "Other words."
            return answer

        monkeypatch.setattr(shadow, "_ask", other_words)
        await ask(shadowed, {"X-Trimtab-User": "ada"})
        await shadow.aclose()
        rows = shadowed.db.read().execute("select owners from comparisons").fetchall()
        assert rows == [(["user ada"],)] * compared
