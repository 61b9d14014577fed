"""Usage through the operations API: who used what, which days, and what a restart and an erasure leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.metering.limits import Holder
from serve.metering.usage_counter import Used
from store.accounts import usage
from store.accounts.usage import Usage
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import BudgetSettings, EngineSettings, LimitsSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"
LIMITS = LimitsSettings(
    requests_per_day=50, budgets={"ci": BudgetSettings(tokens_per_month=100, requests_per_month=9)}
)
ada, ci, operator = Holder("user ada", "ada"), Holder("key-1", "ci"), Holder("operator", "operator")
HI = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]}


@contextmanager
def running(data: Path) -> Iterator[tuple[Platform, TestClient]]:
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=data, engines=engines, limits=LIMITS), URL)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield platform, client


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Platform, TestClient]]:
    with running(tmp_path / "data") as both:
        yield both


def rows(client: TestClient, **query: str) -> dict[str, Any]:
    answer = client.get("/api/usage", params=query)
    assert answer.status_code == 200, answer.text
    return {row["name"]: row for row in answer.json()}


def test_who_used_what_beside_their_budgets(both: tuple[Platform, TestClient]) -> None:
    platform, client = both
    assert client.get("/api/usage").json() == []
    counter = platform.gateway.rate_limiter.counter
    counter.add([ada, ci], Used(30, 12))
    counter.add([ci], Used(1, 2))
    counter.add([operator], Used(1, 0))
    assert [row["name"] for row in client.get("/api/usage").json()] == ["ci", "ada", "operator"]
    found = rows(client)
    assert found["ada"] == {
        "kind": "user",
        "id": "ada",
        "name": "ada",
        "requests": 1,
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "today": {"requests": 1, "tokens": 42, "requests_budget": 50, "tokens_budget": None},
        "month": {"requests": 1, "tokens": 42, "requests_budget": None, "tokens_budget": None},
    }
    assert (found["ci"]["kind"], found["ci"]["id"]) == ("key", "key-1")
    month = {"requests": 2, "tokens": 45, "requests_budget": 9, "tokens_budget": 100}
    assert found["ci"]["month"] == month
    assert (found["operator"]["kind"], found["operator"]["id"]) == ("other", "operator")


def test_the_days_that_were_asked_for(both: tuple[Platform, TestClient]) -> None:
    platform, client = both
    today = datetime.now(UTC).date()
    for day, name in ((date(2025, 1, 31), "jan"), (date(2025, 2, 1), "feb"), (date(2025, 2, 28), "last")):
        usage.add(platform.db, {day: [Usage(f"user {name}", name, 1, 10, 5)]})
    usage.add(platform.db, {today: [Usage("user now", "now", 1, 10, 5)]})
    assert set(rows(client)) == {"now"}
    assert set(rows(client, since="2025-01-31", until="2025-02-01")) == {"jan", "feb"}
    assert set(rows(client, until="2025-02-27")) == {"feb"}
    assert set(rows(client, since="2025-02-28")) == {"last", "now"}
    old = rows(client, since="2025-01-31", until="2025-01-31")["jan"]
    assert (old["requests"], old["month"]["requests"]) == (1, 0), "today and this month are those of now"


@pytest.mark.parametrize(
    ("query", "field", "accepted"),
    [
        ({"since": "yesterday"}, "since", "YYYY-MM-DD"),
        ({"since": "20250201"}, "since", "YYYY-MM-DD"),
        ({"until": "2025-02-30"}, "until", "YYYY-MM-DD"),
        ({"until": ""}, "until", "YYYY-MM-DD"),
        ({"since": "2025-02-02", "until": "2025-02-01"}, "since", "2025-02-01"),
        ({"since": (datetime.now(UTC).date() + timedelta(days=2)).isoformat()}, "since", "which is today"),
    ],
)
def test_wrong_days_are_named(
    both: tuple[Platform, TestClient], query: dict[str, str], field: str, accepted: str
) -> None:
    answer = both[1].get("/api/usage", params=query)
    assert answer.status_code == 422
    body = answer.json()
    assert body["field"] == field
    assert accepted in body["accepted"]
    assert field in body["detail"]


def test_a_restart_gives_no_budget_back(tmp_path: Path) -> None:
    with running(tmp_path / "data") as (platform, client):
        for _ in range(50):
            platform.gateway.rate_limiter.counter.add([Holder("local", "local")], Used(1, 1))
        assert client.post("/v1/chat/completions", json=HI).status_code == 429
    with running(tmp_path / "data") as (platform, client):
        answer = client.post("/v1/chat/completions", json=HI)
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
        assert "local has used its 50 requests a day" in error["message"]
        assert 0 < int(answer.headers["Retry-After"]) <= 86_400
        assert rows(client)["local"]["requests"] == 50
        compared = client.post("/api/comparisons", json={"messages": HI["messages"]})
        assert compared.status_code == 429
        assert "Retry-After" in compared.headers


def test_an_erased_person_has_no_usage(both: tuple[Platform, TestClient]) -> None:
    platform, client = both
    counter = platform.gateway.rate_limiter.counter
    counter.add([ada, ci], Used(30, 12))
    assert set(rows(client)) == {"ada", "ci"}
    counter.add([ada, ci], Used(1, 1))  # not written yet
    done = client.post("/api/users/ada/erase")
    assert done.json()["removed"] == {"usage": 1}
    assert set(rows(client)) == {"ci"}
    assert (counter.spent(ada.id)[1].tokens, counter.spent(ci.id)[1].tokens) == (0, 44)
