"""The training data is curated over HTTP: searched, read, left out in bulk, with kept searches and a report."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from store.training_data import pairs
from tests.trimtab.conftest import problem
from trimtab.platform import Platform


@pytest.fixture
def rows(platform: Platform) -> list[str]:
    """The ids of three pairs, the newest first."""
    asked = [{"prompt": f"question {n}", "chosen": "yes " * n, "rejected": "no"} for n in range(1, 4)]
    pairs.import_rows(platform.db, asked, "test")
    return [row.id for row in pairs.list_page(platform.db)]


def found(client: TestClient, **query: Any) -> list[str]:
    answer = client.get("/api/rows/pairs", params=query)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["rows"]]


def test_rows_are_searched_and_read(client: TestClient, rows: list[str]) -> None:
    assert found(client, text="QUESTION 2") == [rows[1]]
    assert found(client, min_chars=12, source="test") == [rows[0]]
    page = client.get("/api/rows/pairs", params={"limit": 2}).json()
    assert (page["next"], page["total"]) == (rows[1], 3)
    assert found(client, limit=2, after=page["next"]) == [rows[2]]
    row = client.get(f"/api/rows/pairs/{rows[0]}").json()
    assert (row["imported"]["source"], row["review"], row["releases"]) == ("test", None, [])
    assert row["responses"]["chosen"][0]["content"] == "yes yes yes "


def test_rows_are_reviewed_by_id_and_by_filter(client: TestClient, rows: list[str]) -> None:
    def review(**body: Any) -> Any:
        return client.post("/api/rows/pairs/review", json={"reason": "looked at", **body})

    assert review(ids=rows[:1], state="excluded").json() == {"changed": 1, "state": "excluded"}
    (row,) = client.get("/api/rows/pairs", params={"state": "excluded"}).json()["rows"]
    assert row["review"]["reason"] == "looked at"
    assert review(filters={"state": "unreviewed"}, state="approved").json()["changed"] == 2
    assert review(filters={}, state=None).json()["changed"] == 3
    assert found(client, state="unreviewed") == rows
    assert client.get("/api/audit", params={"action": "pair.restore"}).json()[0]["detail"] == {
        "reason": "looked at"
    }
    problem(review(ids=["pair-none"], state="excluded"), 404)


def test_what_is_wrong_is_named(client: TestClient, rows: list[str]) -> None:
    def refused(answer: Any) -> str:
        return str(problem(answer, 422))

    reviews = "/api/rows/pairs/review"
    assert "ids or filters" in refused(client.post(reviews, json={"state": None, "reason": "r"}))
    both = {"ids": rows, "filters": {}, "state": None, "reason": "r"}
    assert "ids or filters" in refused(client.post(reviews, json=both))
    for field, value in (("state", "odd"), ("reason", "")):
        body = {"ids": rows, "state": "excluded", "reason": "r", field: value}
        assert field in refused(client.post(reviews, json=body))
    for field, value in (("min_chars", "-1"), ("state", "odd"), ("min_agreement", "2"), ("colour", "red")):
        assert field in refused(client.get("/api/rows/pairs", params={field: value}))
    problem(client.get("/api/rows/pairs", params={"deployment": "nobody"}), 404)
    assert found(client, state="unreviewed") == rows


def test_searches_are_kept_and_reported_on(client: TestClient, rows: list[str]) -> None:
    body = {"noun": "pairs", "filters": {"min_chars": 12, "since": "2020-01-01T00:00:00Z"}}
    assert client.put("/api/views/long ones", json=body).status_code == 200
    (view,) = client.get("/api/views").json()
    assert view["filters"] == {"min_chars": 12, "since": "2020-01-01T00:00:00Z"}
    assert found(client, **view["filters"]) == [rows[0]]
    assert client.get("/api/rows/pairs/report", params=view["filters"]).json()["rows"] == 1
    assert client.delete("/api/views/long ones").status_code == 204
    problem(client.delete("/api/views/long ones"), 404)
