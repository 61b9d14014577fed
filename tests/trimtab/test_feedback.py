"""Feedback of other front ends: thumbs, numbers, comments, and which of two answers to one question is better."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from store.accounts import keys, sharing, users
from store.conversations import conversations, ratings
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.rows import scalar
from store.errors import Invalid
from store.feedback import comparisons, decided
from store.feedback.comparisons import Candidate
from store.maintenance.verify import verify
from store.privacy import erasure
from store.rollout import leaderboard
from store.training_data import demonstrations, likes, pairs
from store.values import Message
from tests.trimtab.conftest import problem
from trimtab.app import build_app
from trimtab.platform import Platform
from trimtab_client import AsyncClient

FEEDBACK = "/api/feedback"


def record(platform: Platform, id: str, answer: str, *said: str, given: str = "chat-1", **facts: Any) -> None:
    messages = tuple(
        Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(said or ("Hi",))
    )
    turn = Turn(id, given, messages, answer, "assistant", source="frontend", **facts)
    conversations.record_turns(platform.db, [turn])


@pytest.fixture(autouse=True)
def _verified(client: TestClient, platform: Platform) -> Iterator[None]:
    yield
    assert verify(platform.db) == []


def give(client: TestClient, who: str | None = None, **body: Any) -> Any:
    headers = {"X-Trimtab-User": who} if who else None
    return client.post(FEEDBACK, json=body, headers=headers)


def test_a_thumb_is_a_like_and_the_last_one_counts(client: TestClient, platform: Platform) -> None:
    record(platform, "c1", "Hello.")
    for value, liked in ((True, True), (-1, False), (1, True), (False, False)):
        for _ in range(2):
            answer = give(client, completion_id="c1", key="thumb", value=value)
            assert answer.json() == {"completion_id": "c1", "key": "thumb", "value": liked}
            assert likes.count(platform.db) == {"liked": int(liked), "disliked": int(not liked)}
            assert demonstrations.count(platform.db) == int(liked)
    give(client, completion_id="c1", key="thumb", value=None)
    assert likes.count(platform.db) == {"liked": 0, "disliked": 0}


def test_the_same_thumb_again_keeps_its_rows(client: TestClient, platform: Platform) -> None:
    record(platform, "c1", "Hello.")
    found = []
    for _ in range(2):
        give(client, completion_id="c1", key="thumb", value=1)
        (row,) = demonstrations.list_page(platform.db)
        found.append((likes.list_recent(platform.db)[0]["id"], row.id))
    assert found[0] == found[1], "the rows that a release learned from stay, so its lineage does"


def test_numbers_and_comments_are_kept_per_key_and_person(client: TestClient, platform: Platform) -> None:
    platform.db.redact = lambda text: text.replace("ada@example.org", "[email]")
    record(platform, "c1", "Hello.", release="rel-unknown")
    give(client, completion_id="c1", key="score", value=3)
    give(client, completion_id="c1", key="score", value=4.5, text="mail ada@example.org")
    give(client, "ada", completion_id="c1", key="score", value=1)
    give(client, completion_id="c1", key="helpfulness", value=True)
    rows = client.get(FEEDBACK, params={"completion_id": "c1"}).json()
    assert {(row["user"], row["key"], row["value"], row["comment"]) for row in rows} == {
        ("local", "score", 4.5, None),
        ("local", "comment", None, "mail [email]"),
        ("ada", "score", 1.0, None),
        ("local", "helpfulness", 1.0, None),
    }
    assert {row["release"] for row in rows} == {"rel-unknown"}
    assert len(client.get(FEEDBACK, params={"key": "score"}).json()) == 2
    give(client, completion_id="c1", key="score", value=None)
    give(client, completion_id="c1", text="")
    assert {(row.user, row.key) for row in ratings.list_recent(platform.db)} == {
        ("ada", "score"),
        ("local", "helpfulness"),
    }
    assert demonstrations.count(platform.db) == pairs.count(platform.db) == 0


def test_a_choice_between_two_answers_is_a_vote(
    client: TestClient, platform: Platform, tmp_path: Path
) -> None:
    for id, text, release in (("c1", "One.", "rel-1"), ("c2", "Two.", "rel-2")):
        record(platform, id, text, "Hi", "Hello.", "And?", release=release, user="ada", finish_reason="stop")
    found = [give(client, "ada", preferred="c2", other="c1", text="shorter").json() for _ in range(2)]
    assert found[0] == found[1]
    (pair,) = pairs.list_page(platform.db)
    assert found[0]["pairs"] == [pair.id]
    assert (pair.pair.chosen[0].content, pair.pair.rejected[0].content) == ("Two.", "One.")
    assert [message.content for message in pair.pair.prompt] == ["Hi", "Hello.", "And?"]
    made = comparisons.get(platform.db, found[0]["comparison"])
    assert (made.state, made.owners, made.votes_given) == ("decided", ("user ada",), 1)
    assert {made.a.completion_id, made.b.completion_id} == {"c1", "c2"}
    (row,) = leaderboard.rank(platform.db, "assistant")[:1]
    assert (row.release, row.wins) == ("rel-2", 1)
    assert [rating.comment for rating in ratings.list_recent(platform.db, "c2")] == ["shorter"]
    assert snapshots.build(platform.db, tmp_path, "assistant", "dpo", 0.0).train_rows == 1


def test_a_choice_that_changes_replaces_the_former(client: TestClient, platform: Platform) -> None:
    for id, text in (("c1", "One."), ("c2", "Two."), ("c3", "Three.")):
        record(platform, id, text)
    for preferred, other in (("c1", "c2"), ("c2", "c1"), ("c3", "c1")):
        assert give(client, preferred=preferred, other=other).status_code == 200
    found = {
        (row.pair.chosen[0].content, row.pair.rejected[0].content) for row in pairs.list_page(platform.db)
    }
    assert found == {("Two.", "One."), ("Three.", "One.")}
    assert comparisons.count_by_state(platform.db)["total"] == 2
    give(client, "bob", preferred="c1", other="c2")
    assert pairs.count(platform.db) == 3, "another person's choice stands beside it"


def test_consent_is_looked_up_when_a_choice_would_be_used(
    client: TestClient, platform: Platform, tmp_path: Path
) -> None:
    record(platform, "c1", "One.", user="ada")
    record(platform, "c2", "Two.", user="ada")
    give(client, "ada", preferred="c1", other="c2")
    assert len(decided.list_decided(platform.db, "assistant")) == 1
    sharing.choose(platform.db, "user ada", "none")
    assert decided.list_decided(platform.db, "assistant") == []
    with pytest.raises(Invalid, match="at least one row"):
        snapshots.build(platform.db, tmp_path, "assistant", "dpo", 0.0)


@pytest.mark.parametrize("who", ["ada", "bob"])
def test_an_erasure_removes_ratings_and_choices(client: TestClient, platform: Platform, who: str) -> None:
    record(platform, "c1", "One.", "A question of ada's", user="ada")
    record(platform, "c2", "Two.", "A question of ada's", user="ada")
    give(client, "bob", completion_id="c1", key="score", value=2, text="fine")
    give(client, "bob", preferred="c1", other="c2")
    removed = erasure.erase_person(platform.db, who).removed
    assert (removed["ratings"], removed["votes"], removed["comparisons"]) == (2, 1, 1)
    for table in ("ratings", "votes", "comparisons", "candidates", "pairs"):
        assert scalar(platform.db.read(), f"select count(*) from {table}") == 0
    assert scalar(platform.db.read(), "select count(*) from completions") == (0 if who == "ada" else 2)


def test_a_person_of_whom_only_a_rating_is_stored_can_be_erased(
    client: TestClient, platform: Platform
) -> None:
    record(platform, "c1", "One.")
    give(client, "bob", completion_id="c1", text="fine")
    assert erasure.is_known(platform.db, "bob")
    assert erasure.erase_person(platform.db, "bob").removed == {"ratings": 1}


def test_who_may_say_what(client: TestClient, platform: Platform) -> None:
    db = platform.db
    users.create(db, "ada", ["chat"])
    secrets = {
        "ada": keys.create(db, "laptop", ["chat"], "ada")[1],
        "rater": keys.create(db, "ci", ["rater"])[1],
        "ops": keys.create(db, "root", ["ops"])[1],
    }
    record(platform, "c1", "One.", user="ada")
    record(platform, "c2", "Two.", user="ada")
    found = {}
    for who, secret in secrets.items():
        headers = {"Authorization": f"Bearer {secret}"}
        bodies = ({"completion_id": "c1", "key": "score", "value": 1}, {"preferred": "c1", "other": "c2"})
        given = [client.post(FEEDBACK, json=body, headers=headers).status_code for body in bodies]
        listed = client.get(FEEDBACK, headers=headers).status_code
        named = {**headers, "X-Trimtab-User": "bob"}
        found[who] = (*given, listed, client.post(FEEDBACK, json=bodies[0], headers=named).status_code)
    assert found == {"ada": (200, 403, 403, 403), "rater": (404, 404, 403, 403), "ops": (200, 200, 200, 200)}


def test_a_like_a_vote_and_a_question_are_of_the_person_that_the_header_names(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(platform, "c1", "One.")
    like = client.post("/api/messages/c1/like", json={"liked": True}, headers={"X-Trimtab-User": "bob"})
    assert like.status_code == 200
    rows = platform.db.read().execute("select distinct user_name from likes").fetchall()
    assert rows == [("bob",)]
    messages = [{"role": "user", "content": "Why?"}]
    made = comparisons.create(platform.db, messages, [Candidate("A."), Candidate("B.")])
    bob = {"X-Trimtab-User": "bob"}
    assert client.get("/api/comparisons/next", headers=bob).json()["id"] == made.id
    voted = client.post(f"/api/comparisons/{made.id}/vote", json={"choice": "a"}, headers=bob)
    assert voted.status_code == 200, voted.text
    assert [one.rater for one in comparisons.votes(platform.db, made.id)] == ["bob"]
    assert client.get("/api/comparisons/next", headers=bob).status_code == 204

    async def sampled(*asked: Any) -> list[Candidate]:
        return [Candidate("C."), Candidate("D.")]

    monkeypatch.setattr("trimtab.api.comparisons.routes.sample", sampled)
    typed = {"messages": messages, "releases": ["tiny", "tiny"], "drawn": False}
    asked = client.post("/api/comparisons", json=typed, headers=bob)
    assert asked.status_code == 201, asked.text
    assert comparisons.get(platform.db, asked.json()["id"]).asked_by == "bob"

    _, chat = keys.create(platform.db, "laptop", ["rater"])
    other = {**bob, "Authorization": f"Bearer {chat}"}
    vote = f"/api/comparisons/{asked.json()['id']}/vote"
    for path, body in (("/api/messages/c1/like", {"liked": False}), (vote, {"choice": "a"})):
        refused = client.post(path, json=body, headers=other)
        assert (refused.status_code, "needs a key with the role ops" in refused.text) == (403, True)
    assert comparisons.get(platform.db, asked.json()["id"]).votes_given == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "completion_id"),
    ({"completion_id": ""}, "completion_id"),
    ({"completion_id": "c1"}, "key"),
    ({"completion_id": "c1", "value": 1}, "key"),
    ({"completion_id": "c1", "key": "comment", "value": 1}, "key"),
    ({"completion_id": "c1", "key": "two words", "value": 1}, "key"),
    ({"completion_id": "c1", "key": "thumb"}, "value"),
    ({"completion_id": "c1", "key": "thumb", "value": 0}, "value"),
    ({"completion_id": "c1", "key": "thumb", "value": "up"}, "value"),
    ({"completion_id": "c1", "key": "score"}, "value"),
    ({"completion_id": "c1", "key": "score", "value": "good"}, "value"),
    ({"completion_id": "c1", "key": "score", "value": [1]}, "value"),
    ({"completion_id": "c1", "key": "score", "value": 10**400}, "value"),
    ({"completion_id": "c1", "key": "score", "value": 1, "text": "x" * 20_001}, "text"),
    ({"completion_id": "c1", "score": 1}, "score"),
    ({"preferred": "c1"}, "other"),
    ({"other": "c1"}, "preferred"),
    ({"preferred": "c1", "other": "c2", "value": 1}, "value"),
    ({"preferred": "c1", "other": "c2", "completion_id": "c1"}, "completion_id"),
    ({"preferred": "c1", "other": "c1"}, "other"),
    ({"preferred": "c1", "other": "same"}, "other"),
    ({"preferred": "c1", "other": "elsewhere"}, "other"),
    ({"preferred": "c1", "other": "later"}, "other"),
]


def test_bad_feedback_names_its_field_and_keeps_nothing(client: TestClient, platform: Platform) -> None:
    record(platform, "c1", "One.")
    record(platform, "c2", "Two.")
    record(platform, "same", "One.")
    record(platform, "elsewhere", "Three.", given="chat-2")
    record(platform, "later", "Four.", "Hi", "One.", "More")
    for body, field in BAD:
        assert problem(client.post(FEEDBACK, json=body), 422)["field"] == field, list(body)
    for table in ("ratings", "votes", "comparisons", "likes", "pairs"):
        assert scalar(platform.db.read(), f"select count(*) from {table}") == 0


def test_feedback_on_unknown_and_empty_answers(client: TestClient, platform: Platform) -> None:
    record(platform, "c1", "One.")
    record(platform, "blank", " ")
    assert problem(give(client, completion_id="c9", key="score", value=1), 404)["ref"] == "c9"
    assert problem(give(client, preferred="c1", other="c9"), 404)["ref"] == "c9"
    assert "no text" in problem(give(client, preferred="c1", other="blank"), 409)["detail"]
    assert "no text" in problem(give(client, completion_id="blank", key="thumb", value=1), 409)["detail"]
    assert give(client, completion_id="blank", key="score", value=0).status_code == 200


def test_the_client_sends_feedback(platform: Platform) -> None:
    record(platform, "c1", "One.")
    record(platform, "c2", "Two.")

    async def send() -> None:
        transport = httpx.ASGITransport(build_app(platform), client=("127.0.0.1", 5000))
        async with AsyncClient("http://127.0.0.1:7860", transport=transport) as client:
            assert (await client.chat.rate("c1", "thumb", True, "good"))["value"] is True
            assert (await client.chat.rate("c1", "score", 0.5))["value"] == 0.5
            assert (await client.chat.rate("c1", "score", None))["value"] is None
            assert (await client.chat.comment("c2", "long"))["text"] == "long"
            assert (await client.chat.prefer("c1", "c2"))["preferred"] == "c1"
            assert {row["comment"] for row in await client.chat.feedback()} == {"good", "long"}
            assert len(await client.chat.feedback("c1", limit=1)) == 1

    asyncio.run(send())
