"""What Ops shows of the platform: the first steps, the audit log's filters, releases as a tree and beside each other."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.testclient import TestClient

from store.accounts import audit
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import adapters, deployments, evaluations, releases
from store.rollout.adapters import AdapterRecord
from tests.trimtab.conftest import BASE, judged, problem
from trimtab import loop
from trimtab.platform import Platform


def adapter(platform: Platform, ident: str, start: str | None = None) -> str:
    path = str(platform.settings.data / ident)
    record = AdapterRecord(
        ident, BASE, path, rank=8, bytes=1, target_modules=("q_proj",), start_adapter=start
    )  # fmt: skip
    return adapters.record(platform.db, record).hash


def steps(client: TestClient) -> dict[str, Any]:
    return {step["name"]: step for step in client.get("/api/status").json()["first_steps"]}


def test_first_steps_are_done_one_by_one(client: TestClient, platform: Platform) -> None:
    before = steps(client)
    assert list(before) == ["chat", "rank", "train", "look", "roll_out"]
    assert not any(step["done"] for step in before.values())
    for number in range(10):
        made = comparisons.create(platform.db, f"q {number}", [Candidate("a"), Candidate("b")])
        comparisons.vote(platform.db, made.id, "a", "ada")
        assert steps(client)["rank"]["done"] == (number == 9)
    release = releases.create(platform.db, "assistant", BASE, system_prompt="Be brief.")
    evaluation = evaluations.create(platform.db, release.id, suite="quick")
    assert client.get(f"/api/evals/{evaluation.id}/report.md").status_code == 409
    assert not steps(client)["look"]["done"], "there is no report yet"
    report = {"suite": "quick", "release": release.ref, "against": None, "measures": {}}
    evaluations.move(platform.db, evaluation.id, "running")
    evaluations.move(platform.db, evaluation.id, "done", report=report)
    for _ in range(2):
        assert client.get(f"/api/evals/{evaluation.id}/report.md").status_code == 200
    assert steps(client)["look"]["have"] == 1
    deployments.set_canary(platform.db, "assistant", release.ref, 0.1)
    assert steps(client)["roll_out"]["done"]


def test_audit_log_is_filtered_by_each_field(client: TestClient, platform: Platform) -> None:
    audit.record(platform.db, "ada", "release.create", "assistant@2")
    audit.record(platform.db, "bob", "release.remove", "assistant@3", {"reason": "Too LONG"})
    audit.record(platform.db, None, "releases", "assistant@3")

    def subjects(**query: str) -> list[str]:
        return [row["action"] for row in client.get("/api/audit", params=query).json()]

    assert subjects(actor="ada") == ["release.create"]
    assert subjects(actor="platform", subject="assistant@3") == ["releases"]
    assert subjects(action="release") == ["release.remove", "release.create"]
    assert subjects(text="too long") == ["release.remove"]
    assert subjects(since="2100-01-01T00:00:00Z") == []
    assert len(subjects(until="2100-01-01T00:00:00Z")) == len(client.get("/api/audit").json())
    options = client.get("/api/audit/options").json()
    assert {"ada", "bob", "platform"} <= set(options["actors"])
    assert {"release.create", "release.remove"} <= set(options["actions"])
    assert "since" in str(problem(client.get("/api/audit?since=soon"), 422))


def test_tree_says_what_each_release_was_made_from(client: TestClient, platform: Platform) -> None:
    first = adapter(platform, "a-1")
    second = adapter(platform, "a-2", start=first)
    for fields in ({"adapter": first}, {"adapter": first, "system_prompt": "Be brief."}, {"adapter": second}):
        releases.create(platform.db, "assistant", BASE, **fields)
    rows = client.get("/api/releases/tree", params={"deployment": "assistant"}).json()
    assert [(row["release"], row["made_by"], row["parents"]) for row in rows] == [
        ("assistant@1", "base", []),
        ("assistant@2", "training", ["assistant@1"]),
        ("assistant@3", "prompt", ["assistant@2"]),
        ("assistant@4", "training", ["assistant@3"]),
    ]


def test_diff_names_changed_fields_and_lines_of_the_prompt(client: TestClient, platform: Platform) -> None:
    prompts = ("Be kind.\n--- never\nEnd.", "Be kind.\nBe brief.\nEnd.")
    for prompt, warmth in zip(prompts, (0.2, 0.9), strict=True):
        sampling = {"temperature": warmth, "top_p": 0.5}
        releases.create(platform.db, "assistant", BASE, system_prompt=prompt, sampling=sampling)
    found = client.get("/api/releases/assistant@3/diff/assistant@2").json()
    assert found["fields"] == [{"name": "sampling.temperature", "before": 0.2, "after": 0.9}]
    assert found["prompt"] == [" Be kind.", "---- never", "+Be brief.", " End."]
    assert client.get("/api/releases/assistant@3/diff/assistant@3").json()["prompt"] == []
    problem(client.get("/api/releases/assistant@3/diff/assistant@9"), 404)


def test_evidence_of_a_canary_ends_where_its_votes_stand(client: TestClient, platform: Platform) -> None:
    assert client.get("/api/deployments/assistant/evidence").json() == []
    asyncio.run(loop.evaluate(platform.loop, judged(platform, "canary")))
    found = deployments.get(platform.db, "assistant")
    for number in range(50):
        pair = [Candidate("good", found.canary), Candidate("poor", found.stable)]
        made = comparisons.create(platform.db, f"q {number}", pair, deployment="assistant", source="pair")
        comparisons.vote(
            platform.db, made.id, "a" if made.a.release == found.canary else "b", f"r{number % 3}"
        )
    points = client.get("/api/deployments/assistant/evidence").json()
    votes = client.get("/api/deployments/assistant").json()["votes"]
    assert len(points) == 40
    assert [point["votes"] for point in points] == sorted({point["votes"] for point in points})
    last = points[-1]
    for name in ("blocks", "win_rate", "low", "high", "evidence_for", "evidence_against"):
        assert last[name] == votes[name], name
    problem(client.get("/api/deployments/nobody/evidence"), 404)
