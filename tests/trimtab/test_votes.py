"""Votes over HTTP: details, taking back, skipping, and what raters see beside a comparison."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from store.accounts import users
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance.verify import verify
from store.rollout import releases
from store.training_data import pairs
from store.values import Message
from tests.trimtab.conftest import problem
from trimtab.config.data_sections import RankSettings
from trimtab.platform import Platform


@pytest.fixture
def made(platform: Platform) -> str:
    release = releases.create(platform.db, "assistant", "smollm2-135m-instruct", system_prompt="Be brief.")
    candidates = [Candidate("yes", release=release.id), Candidate("no", release=release.id)]
    return comparisons.create(platform.db, (Message("user", "One?"),), candidates, "assistant").id


def test_a_vote_carries_its_details_and_is_taken_back(
    client: TestClient, platform: Platform, made: str
) -> None:
    body: dict[str, Any] = {
        "choice": "a",
        "strength": "slightly",
        "reasons": {"a": ["clear"], "b": ["wrong"]},
        "comment": "close",
    }
    cast = client.post(f"/api/comparisons/{made}/vote", json=body).json()
    assert not cast["revised"]
    assert pairs.get(platform.db, cast["pairs"][0]).pair.weight == 0.5
    (listed,) = client.get("/api/votes").json()
    assert {name: listed[name] for name in body} == body
    assert (listed["asked"], listed["deployment"]) == ("One?", "assistant")
    assert listed["created_at"].endswith("Z")
    undone = client.delete(f"/api/comparisons/{made}/vote").json()
    assert (undone["id"], undone["choice"], undone["releases"]) == (cast["id"], "a", [])
    assert client.get("/api/votes").json() == []
    assert client.get("/api/pairs").json() == []
    assert [row["id"] for row in client.get("/api/votes/undone").json()] == [cast["id"]]
    assert client.get("/api/audit").json()[0]["action"] == "vote.undo"
    problem(client.delete(f"/api/comparisons/{made}/vote"), 404)
    again = client.post(f"/api/comparisons/{made}/vote", json={"choice": "b"}).json()
    assert again["revised"]
    assert verify(platform.db) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"strength": "very"}, "strength"),
        ({"reasons": {"e": ["x"]}}, "reasons"),
        ({"reasons": {"a": [""]}}, "reasons.a"),
        ({"unsafe": ["both"]}, "unsafe"),
        ({"comment": "x" * 10_001}, "comment"),
    ],
)
def test_wrong_details_are_refused_by_field(
    client: TestClient, made: str, body: dict[str, Any], field: str
) -> None:
    refused = problem(client.post(f"/api/comparisons/{made}/vote", json={"choice": "a", **body}), 422)
    assert field in str(refused)
    assert client.get("/api/votes").json() == []


def test_a_skip_with_its_reason_is_listed_for_operators(client: TestClient, made: str) -> None:
    assert client.post(f"/api/comparisons/{made}/skip", json={"reason": "too long"}).status_code == 204
    assert client.get("/api/comparisons/next").status_code == 204
    (row,) = client.get("/api/votes/skipped").json()
    assert (row["comparison"], row["reason"]) == (made, "too long")
    assert client.get("/api/votes/summary").json()["skipped"] == 1
    problem(client.post(f"/api/comparisons/{made}/skip", json={"reason": ""}), 422)


@pytest.mark.parametrize("own", [False, True])
def test_reasons_and_guidelines_are_those_of_the_deployment(
    client: TestClient, platform: Platform, made: str, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    rank = RankSettings(reasons=("short",), guidelines="# All")
    theirs = {"reasons": ("kind", "true"), "guidelines": "Be *kind*."} if own else {}
    deployment = platform.settings.deployments["assistant"].model_copy(update=theirs)
    changed = {"rank": rank, "deployments": {"assistant": deployment}}
    monkeypatch.setattr(platform, "settings", platform.settings.model_copy(update=changed))
    shown = client.get("/api/comparisons/next").json()
    assert shown["reasons"] == (["kind", "true"] if own else ["short"])
    assert shown["guidelines"] == ("Be *kind*." if own else "# All")
    assert shown["skip_reasons"] == list(RankSettings().skip_reasons)


def test_raters_see_their_own_votes_and_operators_everybody_s(
    client: TestClient, platform: Platform, made: str
) -> None:
    users.create(platform.db, "ada", ["rater"], "correct horse")
    users.create(platform.db, "bob", ["rater"], "correct horse")
    comparisons.vote(platform.db, made, "a", "bob")
    admin = {"Authorization": f"Bearer {platform.key}"}
    client.post("/login", data={"name": "ada", "password": "correct horse"})
    assert client.get("/api/votes").json() == []
    problem(client.get("/api/votes", params={"everybody": True}), 403)
    problem(client.get("/api/votes/undone", params={"everybody": True}), 403)
    problem(client.get("/api/votes/skipped"), 403)
    problem(client.delete(f"/api/comparisons/{made}/vote"), 404)
    client.cookies.clear()
    (row,) = client.get("/api/votes", params={"everybody": True}, headers=admin).json()
    assert row["rater"] == "bob"
