"""The function for Open WebUI, run as Open WebUI 0.12 loads and calls it, against the platform."""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from store.conversations import conversations, ratings
from store.conversations.turn import Turn
from store.training_data import likes, pairs
from store.values import Message
from tests.support.asgi import serving
from trimtab.app import build_app
from trimtab.platform import Platform

FILE = Path(__file__).parents[2] / "integrations" / "open_webui" / "trimtab_feedback.py"
CHAT = "5b0f0a1e-7f0a-4a58-9f8e-2d7c9a1b3c4d"


def function() -> Any:
    """Return the function's object as `open_webui.utils.plugin` makes it from the pasted text."""
    module = types.ModuleType("function_trimtab_feedback")
    exec(FILE.read_text(), module.__dict__)
    assert not any(hasattr(module, name) for name in ("Pipe", "Filter", "Action"))
    return module.Event()


def feedback(messages: dict[str, dict[str, Any]], rated: str, **data: Any) -> Any:
    """Return a `FeedbackModel` of Open WebUI: its fields, with what its page sends for a rating."""
    history = {"messages": messages, "currentId": rated}
    return types.SimpleNamespace(
        id="feedback-1",
        user_id="user-1",
        version=0,
        type="rating",
        data={"model_id": "assistant", **data},
        meta={
            "arena": False,
            "model_id": "assistant",
            "message_id": rated,
            "message_index": 2,
            "chat_id": CHAT,
            "base_models": {"assistant": None},
        },
        snapshot={"chat": {"id": CHAT, "user_id": "user-1", "title": "T", "chat": {"history": history}}},
        created_at=1_795_000_000,
        updated_at=1_795_000_000,
    )


def chat(*answers: str, **more: Any) -> dict[str, dict[str, Any]]:
    ids = [f"a{n}" for n in range(len(answers))]
    found: dict[str, dict[str, Any]] = {
        "q": {"id": "q", "parentId": None, "role": "user", "content": "Hi", "childrenIds": ids}
    }
    for id, text in zip(ids, answers, strict=True):
        said = {"id": id, "parentId": "q", "role": "assistant", "content": text, "childrenIds": []}
        found[id] = said | {"model": "assistant", "done": True} | more.get(id, {})
    return found


def dispatch(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, row: Any, name: str = "feedback.created"
) -> None:
    """Call the function with the event as `open_webui.events.dispatch_event_functions` does."""

    class Feedbacks:
        @staticmethod
        async def get_feedback_by_id(id: str) -> Any:
            return row if id == row.id else None

    class Users:
        @staticmethod
        async def get_user_by_id(id: str) -> Any:
            return types.SimpleNamespace(id=id, name="Ada", email="ada@example.org", role="user")

    for module, names in (("feedbacks", {"Feedbacks": Feedbacks}), ("users", {"Users": Users})):
        stub = types.ModuleType(f"open_webui.models.{module}")
        stub.__dict__.update(names)
        monkeypatch.setitem(sys.modules, stub.__name__, stub)
    event = {"event": name, "resource": "feedback", "subject": {"type": "feedback", "id": row.id}, "data": {}}

    async def send() -> None:
        async with serving(build_app(platform)) as url:
            made = function()
            made.valves = made.Valves(url=url, key=platform.key)
            given = {
                "event": event,
                "__id__": "trimtab_feedback",
                "__event_name__": name,
                "__request__": None,
            }
            wanted = inspect.signature(made.event).parameters
            await made.event(**{key: value for key, value in given.items() if key in wanted})

    asyncio.run(send())


def record(platform: Platform, *answers: str) -> None:
    for n, text in enumerate(answers):
        turn = Turn(f"c{n}", CHAT, (Message("user", "Hi"),), text, "assistant", user="ada@example.org")
        conversations.record_turns(platform.db, [turn])


def chosen(platform: Platform) -> set[tuple[str, str]]:
    return {
        (row.pair.chosen[0].content, row.pair.rejected[0].content) for row in pairs.list_page(platform.db)
    }


def test_a_rating_of_open_webui_becomes_thumb_score_and_comment(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(platform, "Hello.", "Good day.")
    said = '<details type="reasoning" done="true">\n<summary>Thought</summary>\nhm\n</details>\nHello.\n'
    more: dict[str, Any] = {
        "rating": 1,
        "details": {"rating": 9},
        "reason": "accurate_information",
        "comment": "Nice",
    }
    dispatch(platform, monkeypatch, feedback(chat(said, "Other server's."), "a0", **more))
    (like,) = likes.list_recent(platform.db)
    assert (like["completion"][0]["content"], like["label"]) == ("Hello.", True)
    found = {
        (row.completion_id, row.key, row.value, row.comment, row.user)
        for row in ratings.list_recent(platform.db)
    }
    assert found == {
        ("c0", "score", 9.0, None, "ada@example.org"),
        ("c0", "comment", None, "accurate_information: Nice", "ada@example.org"),
    }
    assert chosen(platform) == set()


def test_a_rating_among_siblings_prefers_the_liked_answer_and_follows_its_change(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(platform, "One.", "Two.", "Three.")
    rated_alike = {"a2": {"annotation": {"rating": 1}}}
    messages = chat("One.", "Two.", "Three.", **rated_alike)
    dispatch(platform, monkeypatch, feedback(messages, "a0", rating=1, sibling_model_ids=["assistant"] * 2))
    assert chosen(platform) == {("One.", "Two.")}
    dispatch(platform, monkeypatch, feedback(messages, "a0", rating=-1), "feedback.updated")
    assert chosen(platform) == {("Two.", "One."), ("Three.", "One.")}
    assert likes.count(platform.db) == {"liked": 0, "disliked": 1}


@pytest.mark.parametrize("name", ["feedback.created", "chat.created"])
def test_what_the_platform_did_not_answer_is_left_alone(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name != "feedback.created":
        record(platform, "One.", "Two.")
    dispatch(platform, monkeypatch, feedback(chat("One.", "Two."), "a0", rating=1), name)
    assert likes.count(platform.db) == {"liked": 0, "disliked": 0}
    assert chosen(platform) == set()
