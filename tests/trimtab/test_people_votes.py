"""`eval --people`: blind pairs of an evaluation's answers go to Rank, and the votes join its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.accounts import sharing, users
from store.datasets import snapshots
from store.db.rows import fetch_all
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import canary_votes, deployments
from tests.support.stub_releases import Release
from tests.trimtab.test_evaluations import measured
from trimtab.platform import Platform


def new_release() -> Release:
    return Release(lambda *asked: ("A better answer.", "stop"), chosen=-1.9, rejected=-2.2)


def evaluate(client: TestClient, **body: Any) -> dict[str, Any]:
    found = client.post("/api/evals", json={"release": "assistant@2", "suite": "quick", **body})
    assert found.status_code == 202, found.text
    row, until = found.json(), time.monotonic() + 60
    while row["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.05)
        row = client.get(f"/api/evals/{row['id']}").json()
    assert row["state"] == "done", row
    return dict(row)


def waiting(client: TestClient) -> list[dict[str, Any]]:
    """Vote for the new release wherever it is shown; return the comparisons as a rater sees them."""
    seen = []
    while (found := client.get("/api/comparisons/next")).status_code == 200:
        one = found.json()
        seen.append(one)
        choice = "a" if one["a"] == "A better answer." else "b"
        assert client.post(f"/api/comparisons/{one['id']}/vote", json={"choice": choice}).status_code == 200
    return seen


def test_people_compare_answers_blind_and_their_votes_join_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new_release()) as (
        platform,
        client,
    ):
        found = evaluate(client, people=6)
        assert found["against"] == "assistant@1", "stable, where none is named"
        assert found["report"]["people"] == {"wanted": 6, "asked": 6, "open": 6}
        assert "people_win_rate" not in found["report"]["measures"]
        seen = waiting(client)
        assert {row["source"] for row in seen} == {"eval"}
        assert not any("assistant@" in str(row) for row in seen)
        assert len({row["messages"][0]["content"] for row in seen}) == 6
        report = client.get(f"/api/evals/{found['id']}").json()["report"]
        assert report["measures"]["people_win_rate"]["release"]["value"] == 1.0
        assert report["measures"]["people_win_rate"]["release"]["n"] == 6
        assert report["measures"]["both_bad_share"]["against"]["value"] == 0.0
        for form in ("html", "md"):
            text = client.get(f"/api/evals/{found['id']}/report.{form}").text
            assert "people win rate" in text
        made = fetch_all(platform.db.read(), "select votes_wanted, source from comparisons")
        assert {(row["votes_wanted"], row["source"]) for row in made} == {(1, "eval")}


def test_votes_for_an_evaluation_decide_no_canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new_release()) as (
        platform,
        client,
    ):
        deployments.set_canary(platform.db, "assistant", "assistant@2", 0.1)
        assert evaluate(client, release="assistant", people=3)["release"] == "assistant@2"
        assert len(waiting(client)) >= 3
        duel = canary_votes.of_canary(platform.db, "assistant")
        assert duel is not None
        assert (len(duel.votes), duel.others) == (0, len(fetch_all(platform.db.read(), "from votes")))


def test_both_bad_is_counted_for_each_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new_release()) as (
        platform,
        client,
    ):
        ids = {row.number: row.id for row in _releases(platform)}
        for n, (one, choice) in enumerate([(1, "both_bad"), (1, "both_bad"), (1, "a"), (2, "a"), (2, "b")]):
            pair = [Candidate("yes", ids[one]), Candidate("no", ids[one])]
            made = comparisons.create(platform.db, f"Q{n}", pair, "assistant")
            comparisons.vote(platform.db, made.id, choice, "ada")
        share = evaluate(client, against="assistant@1")["report"]["measures"]["both_bad_share"]
        assert share["against"]["value"] == pytest.approx(2 / 3)
        assert share["release"]["value"] == 0.0


def _releases(platform: Platform) -> Any:
    from store.rollout import releases

    return releases.list_all(platform.db)


def test_nothing_to_compare_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=Release()) as (_, client):
        for body in ({"release": "assistant", "people": 5}, {"release": "assistant@1", "people": 5}):
            refused = client.post("/api/evals", json=body | {"suite": "quick"})
            assert (refused.status_code, refused.json()["field"]) == (422, "against")
        wrong = client.post("/api/evals", json={"release": "assistant@2", "people": -1})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "people")


def test_a_prompt_that_is_not_shared_is_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new_release()) as (
        platform,
        client,
    ):
        db = platform.db
        for n in range(20):
            pair = [Candidate("yes"), Candidate("no")]
            made = comparisons.create(db, f"Ada asks {n}?", pair, "assistant", owners=["user ada"])
            comparisons.vote(db, made.id, "a", "rob")
        snapshots.build(db, platform.paths.snapshots, "assistant", "dpo", 0.5, near_duplicates=None)
        sharing.choose(db, "user ada", "none")
        evaluate(client, people=12)
        assert not any("Ada" in str(row["messages"]) for row in waiting(client))


def test_some_pairs_are_judged_twice_where_several_may_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.people_votes.TWO_VOTES", 1.0)
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new_release()) as (
        platform,
        client,
    ):
        for name in ("ada", "bob"):
            users.create(platform.db, name, ["rater"])
        evaluate(client, people=2)
        made = fetch_all(platform.db.read(), "select votes_wanted from comparisons")
        assert [row["votes_wanted"] for row in made] == [2, 2]
