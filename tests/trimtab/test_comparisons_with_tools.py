"""Comparisons of conversations with tools, over HTTP: what both releases are asked, what is kept, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.gateway.forwarder import Completion
from store.training_data import pairs
from store.values import conversation
from trimtab.config.data_sections import RankSettings, Shown
from trimtab.platform import Platform

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Looks.", "parameters": None}}]
ASKED = {"role": "user", "content": "Rain in Ulm?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
AGAIN = {"role": "user", "content": "And in Bern?"}


@pytest.fixture
def asked(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Requests that releases got; the first is answered with a call, the second in words, after reasoning."""
    got: list[dict[str, Any]] = []
    messages = (
        {"content": None, "tool_calls": [CALL], "reasoning": "Look."},
        {"content": "No rain.", "tool_calls": []},
    )

    async def answer(_: object, body: dict[str, Any], **__: object) -> Completion:
        got.append(body)
        choice = {"message": messages[(len(got) - 1) % 2], "finish_reason": "stop"}
        return Completion({"choices": [choice]}, platform.gateway.table.resolve("assistant", "x"))

    monkeypatch.setattr(platform.gateway, "complete", answer)
    return got


def test_both_are_asked_with_the_tools_and_a_vote_keeps_the_call(
    client: TestClient, platform: Platform, asked: list[dict[str, Any]]
) -> None:
    body = {"messages": [ASKED, CALLED, RESULT, AGAIN], "tools": TOOLS, "drawn": False}
    made = client.post("/api/comparisons", json=body)
    assert made.status_code == 201, made.text
    given = conversation([{**ASKED, "tools": TOOLS}, CALLED, RESULT, AGAIN])
    assert [conversation(request["messages"]) for request in asked] == [given, given]
    shown = client.get("/api/comparisons/next").json()
    side = "a" if shown["a_message"] else "b"
    other = {"a": "b", "b": "a"}[side]
    assert shown[f"{side}_message"]["tool_calls"] == [CALL]
    assert shown[f"{side}_message"]["reasoning_content"] == "Look."
    assert (shown[side], shown[other], shown[f"{other}_message"]) == ("", "No rain.", None)
    voted = client.post(f"/api/comparisons/{shown['id']}/vote", json={"choice": side}).json()
    pair = pairs.get(platform.db, voted["pairs"][0]).pair
    assert pair.prompt == given
    assert pair.chosen[0].to_json()["tool_calls"] == [CALL]
    listed = client.get("/api/pairs").json()[0]
    assert listed["chosen_messages"][0]["tool_calls"] == [CALL]
    assert listed["chosen_messages"][0]["reasoning_content"] == "Look."
    assert (listed["rejected"], listed["rejected_messages"]) == ("No rain.", None)
    assert listed["prompt"][1]["tool_calls"] == [CALL]


def test_what_a_rater_skips_is_not_next(client: TestClient, asked: list[dict[str, Any]]) -> None:
    first, second = (client.post("/api/comparisons", json={"messages": [ASKED]}).json() for _ in range(2))
    assert client.get("/api/comparisons/next").json()["id"] == first["id"]
    skipped = client.get("/api/comparisons/next", params={"skip": first["id"]})
    assert skipped.json()["id"] == second["id"]
    both = {"skip": [first["id"], second["id"]]}
    assert client.get("/api/comparisons/next", params=both).status_code == 204
    assert client.get("/api/comparisons/next", params={"skip": ["x"] * 101}).status_code == 422


@pytest.mark.parametrize("show", ["answers", "whole"])
def test_a_comparison_says_what_of_it_is_compared(
    client: TestClient,
    platform: Platform,
    asked: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    show: Shown,
) -> None:
    settings = platform.settings.model_copy(update={"rank": RankSettings(show=show)})
    monkeypatch.setattr(platform, "settings", settings)
    made = client.post("/api/comparisons", json={"messages": [ASKED], "tools": TOOLS})
    assert made.json()["show"] == show
    assert client.get("/api/comparisons/next").json()["show"] == show


@pytest.mark.parametrize(
    ("messages", "field", "said"),
    [
        ([ASKED, RESULT], "messages[1].role", "tool_calls"),
        ([ASKED, CALLED, {**RESULT, "tool_call_id": "c9"}], "messages[2].tool_call_id", "c1"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages.0.content", "part 0"),
        ([ASKED, {**CALLED, "tool_calls": [{"id": "c1"}]}], "messages[1].tool_calls", "function"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_message_and_field(
    client: TestClient, asked: list[dict[str, Any]], messages: list[Any], field: str, said: str
) -> None:
    refused = client.post("/api/comparisons", json={"messages": messages})
    assert refused.status_code == 422
    assert refused.json()["field"] == field
    assert said in refused.text
    assert asked == []
    assert client.get("/api/comparisons/next").status_code == 204
