"""Comparisons of several answers, and of whole branches, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.gateway.forwarder import Completion
from store.conversations import conversations
from store.conversations.turn import Turn
from store.maintenance.verify import verify
from store.training_data import pairs
from store.values import Message
from tests.trimtab.conftest import problem
from trimtab.config.data_sections import RankSettings
from trimtab.platform import Platform

ASKED = {"role": "user", "content": "Weather?"}
SHORT = [
    {"role": "assistant", "content": "Where?"},
    {"role": "user", "content": "Ulm."},
    {"role": "assistant", "content": "Rain."},
]
LONG = [{"role": "assistant", "content": "It depends on the place."}]


@pytest.fixture
def asked(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Requests that releases got; each is answered with its number."""
    got: list[dict[str, Any]] = []

    async def answer(_: object, body: dict[str, Any], **__: object) -> Completion:
        got.append(body)
        choice = {"message": {"content": f"answer {len(got)}"}, "finish_reason": "stop"}
        return Completion({"choices": [choice]}, platform.gateway.table.resolve("assistant", "x"))

    monkeypatch.setattr(platform.gateway, "complete", answer)
    return got


@pytest.mark.parametrize("count", [3, 4])
def test_several_are_sampled_apart_and_put_in_an_order(
    client: TestClient, platform: Platform, asked: list[dict[str, Any]], count: int
) -> None:
    made = client.post("/api/comparisons", json={"messages": [ASKED], "answers": count}).json()
    sides = "abcd"[:count]
    assert {made[side] for side in sides} == {f"answer {n}" for n in range(1, count + 1)}
    assert (made["c"] is None, made["d"] is None) == (False, count < 4)
    assert all(request["temperature"] == 0.8 for request in asked)
    shown = client.get("/api/comparisons/next").json()
    assert {side: shown[side] for side in "abcd"} == {side: made[side] for side in "abcd"}
    body = {"ranking": [["c"], ["a", "b"], *([["d"]] if count == 4 else [])]}
    cast = client.post(f"/api/comparisons/{made['id']}/vote", json=body).json()
    assert (cast["choice"], cast["places"]) == ("c", [2, 2, 1, 3][:count])
    assert len(cast["pairs"]) == len(client.get("/api/pairs").json()) == (2 if count == 3 else 5)
    assert set(cast["revealed"]) == set(sides)
    assert verify(platform.db) == []


def test_the_setting_says_how_many_where_the_request_does_not(
    client: TestClient, platform: Platform, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        platform, "settings", platform.settings.model_copy(update={"rank": RankSettings(answers=3)})
    )
    assert client.post("/api/comparisons", json={"messages": [ASKED]}).json()["c"] is not None
    assert client.post("/api/comparisons", json={"messages": [ASKED], "answers": 2}).json()["c"] is None
    named = client.post(
        "/api/comparisons", json={"messages": [ASKED], "releases": ["assistant@1", "assistant@1"]}
    )
    assert named.json()["c"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answers": 5}, "answers"),
        ({"answers": 1}, "answers"),
        ({"answers": 3, "releases": ["assistant@1", "assistant@1"]}, "answers"),
        ({"releases": ["assistant@1"] * 5}, "releases"),
    ],
)
def test_a_wrong_number_is_refused_by_field(
    client: TestClient, asked: list[dict[str, Any]], body: dict[str, Any], field: str
) -> None:
    refused = problem(client.post("/api/comparisons", json={"messages": [ASKED], **body}), 422)
    assert field in str(refused)
    assert asked == []


def test_branches_are_judged_and_listed_whole(client: TestClient, platform: Platform) -> None:
    made = client.post("/api/comparisons/branches", json={"messages": [ASKED], "branches": [SHORT, LONG]})
    assert made.status_code == 201, made.text
    shown = client.get("/api/comparisons/next").json()
    assert shown["branches"] == made.json()["branches"]
    side = "a" if shown["a"] == "Rain." else "b"
    assert shown["branches"][side] == SHORT
    cast = client.post(f"/api/comparisons/{shown['id']}/vote", json={"choice": side}).json()
    stored = pairs.get(platform.db, cast["pairs"][0]).pair
    assert [message.to_json() for message in stored.chosen] == SHORT
    (listed,) = client.get("/api/pairs").json()
    assert listed["chosen_messages"] == SHORT
    assert verify(platform.db) == []


def test_branches_of_a_recorded_conversation_part_where_an_answer_was_given_again(
    client: TestClient, platform: Platform
) -> None:
    def record(id: str, answer: str, *said: str) -> None:
        roles = ("user", "assistant")
        messages = tuple(Message(roles[n % 2], text) for n, text in enumerate(said))
        conversations.record_turns(
            platform.db, [Turn(id, "conv-1", messages, answer, "assistant", source="chat")]
        )

    record("c1", "Where?", "Weather?")
    record("c2", "It depends.", "Weather?")
    record("c3", "Rain.", "Weather?", "Where?", "Ulm.")
    record("c4", "On much.", "Weather?", "It depends.", "On what?")
    made = client.post("/api/comparisons/branches", json={"completions": ["c3", "c4"]}).json()
    assert [turn["content"] for turn in made["messages"]] == ["Weather?"]
    texts = {tuple(turn["content"] for turn in turns) for turns in made["branches"].values()}
    assert texts == {("Where?", "Ulm.", "Rain."), ("It depends.", "On what?", "On much.")}
    refused = problem(client.post("/api/comparisons/branches", json={"completions": ["c1", "c3"]}), 422)
    assert "part at an answer" in str(refused)
    problem(client.post("/api/comparisons/branches", json={"completions": ["c1", "none"]}), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": [ASKED]}, "branches"),
        ({"branches": [SHORT, LONG]}, "messages"),
        ({"completions": ["a", "b"], "messages": [ASKED]}, "messages"),
        ({"messages": [ASKED], "branches": [SHORT, [ASKED]]}, "branches[1]"),
        ({"messages": [ASKED], "branches": [SHORT, SHORT[1:]]}, "candidates[1].turns"),
        ({"messages": [ASKED], "branches": [SHORT, LONG], "releases": ["assistant@1"] * 3}, "releases"),
    ],
)
def test_wrong_branches_are_refused_by_field(client: TestClient, body: dict[str, Any], field: str) -> None:
    refused = problem(client.post("/api/comparisons/branches", json=body), 422)
    assert field in str(refused)
    assert client.get("/api/comparisons/next").status_code == 204
