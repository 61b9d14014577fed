from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.datasets import snapshots
from store.errors import Conflict
from store.rollout import deployments, evaluation_items, evaluations, release_examples, releases
from store.rollout.release_examples import ReleaseExample
from tests.trimtab.conftest import problem
from tests.trimtab.ways.conftest import BASE, Running
from trimtab.ways.comparison import process_bytes
from trimtab.ways.held_data import heldout_rows, newest_snapshot

RULES = {"rules": [{"rule": "max_sentences", "value": 2}], "prefer": "shorter"}
WAYS = "/api/releases/compare"
SUITE = """
[[measurements]]
kind = "heldout"
[[measurements]]
kind = "answers"
heldout = 24
max_tokens = 40
[[measurements]]
kind = "texts"
texts = 6
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    file = tmp_path / "suite.toml"
    file.write_text(SUITE)
    return str(file)


def make_releases(running: Running) -> None:
    db = running.platform.db
    releases.create(db, "assistant", BASE, system_prompt="Answer in at most two sentences.")
    few = releases.create(db, "assistant", BASE, system_prompt="User: a\nAssistant: b")
    release_examples.record(db, few.id, [ReleaseExample(None, "hash", "User: a\nAssistant: b")])
    assert running.client.portal is not None
    running.client.portal.call(running.platform.serving.reconciler.refresh)


def test_ways_of_a_deployment_are_weighed_on_one_suite(running: Running, suite: str) -> None:
    make_releases(running)
    found = running.ended(running.client.post(WAYS, json={"suite": suite, "rules": RULES}))
    assert found["state"] == "done", found
    result = found["result"]
    assert {name: model["model"] for name, model in result["models"].items()} == {
        "base": "assistant@1",
        "prompt": "assistant@2",
        "few-shot": "assistant@3",
    }
    assert result["by"] == "win_rate"
    ways = {row["way"]: row for row in result["ways"]}
    assert ways["prompt"]["quality"]["value"] == 1.0
    assert ways["prompt"]["better"]
    assert ways["prompt"]["gate"] == "pass", ways["prompt"]["reasons"]
    assert ways["prompt"]["cost"]["added_prompt_tokens"] == 6
    assert ways[result["recommended"]]["passes"], "which is cheapest depends on the time that the stub takes"

    # each release has an evaluation with its items, as any other
    db = running.platform.db
    evaluation = evaluations.get(db, result["evaluations"]["prompt"])
    assert evaluation.state == "done"
    assert evaluation.against == releases.get(db, "assistant@1").id
    assert evaluation_items.list_all(db, evaluation.id)
    assert running.client.get(f"/api/evals/{evaluation.id}/report.html").status_code == 200

    page = running.client.get(f"{WAYS}/{found['id']}/report.html")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Recommended: " in page.text
    rows = running.client.get(f"{WAYS}/{found['id']}/table").json()
    shown = {row["name"]: row for row in rows}
    assert shown["base"]["quality"] == ""
    assert shown["prompt"]["quality"].startswith("win rate 1 (")


def test_a_comparison_that_was_cut_short_goes_on(running: Running, suite: str) -> None:
    make_releases(running)
    running.stub.fail_after = 60
    body = {"suite": suite, "rules": RULES}
    failed = running.ended(running.client.post(WAYS, json=body))
    assert failed["state"] == "failed"
    asked, running.stub.fail_after = running.stub.asked, None
    again = running.ended(running.client.post(WAYS, json=body))
    assert again["id"] == failed["id"]
    assert again["state"] == "done", again
    resumed, asked = running.stub.asked - asked, running.stub.asked
    whole = running.ended(running.client.post(WAYS, json=body))
    assert whole["id"] != again["id"], "a comparison that is done is made anew"
    assert resumed <= running.stub.asked - asked - 50


def test_models_are_compared_without_any_data(running: Running) -> None:
    make_releases(running)
    body = {
        "models": ["assistant", "assistant@2", BASE],
        "suite": "quick",
        "rules": RULES,
        "requests": ["Why?", "When?", "Who?"],
    }
    found = running.ended(running.client.post("/api/models/compare", json=body))
    assert found["state"] == "done", found
    models = found["result"]["models"]
    assert list(models) == ["assistant", "assistant@2", BASE]
    assert models["assistant"]["model"] == "assistant@1", "what a deployment means is fixed when it is asked"
    assert models["assistant@2"]["measures"]["win_rate"]["release"]["value"] == 1.0
    assert models[BASE]["speed"]["tokens_per_second"]["median"] > 0
    assert models[BASE]["base"] == BASE
    assert "recommended" not in found["result"]
    rows = running.client.get(f"{WAYS}/{found['id']}/table").json()
    assert rows[1]["tokens/s"]


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/api/models/compare", {"models": ["assistant", "nobody"]}, 422, "models"),
        ("/api/models/compare", {"models": ["assistant"]}, 422, "models"),
        ("/api/models/compare", {"models": ["assistant", "assistant"]}, 422, "models"),
        (WAYS, {"requests_per_day": 0}, 422, "requests_per_day"),
        (WAYS, {"rules": {}}, 422, "rules"),
        (WAYS, {}, 409, "releases"),
    ],
)
def test_bad_input_names_the_field(
    running: Running, path: str, body: dict[str, Any], status: int, field: str
) -> None:
    assert problem(running.client.post(path, json=body), status)["field"] == field
    assert running.client.get("/api/jobs").json() == []


def test_other_bad_input_is_refused(running: Running) -> None:
    make_releases(running)
    problem(running.client.post(WAYS, json={"releases": ["assistant@99"]}), 404)
    problem(running.client.post(WAYS, json={"suite": "huge"}), 422)
    problem(running.client.post(WAYS, json={"deployment": "poet"}), 404)
    problem(running.client.get(f"{WAYS}/job-x/report.html"), 404)


def test_a_request_that_is_refused_makes_no_release(running: Running) -> None:
    make_releases(running)
    db = running.platform.db
    sampled = releases.create(db, "assistant", BASE, system_prompt="Be brief.", sampling={"top_p": 0.5})
    deployments.promote(db, "assistant", release=sampled.id)
    before = releases.list_all(db, "assistant")
    problem(running.client.post(WAYS, json={"releases": ["assistant@99"]}), 404)
    assert releases.list_all(db, "assistant") == before


def test_the_memory_of_an_engine_counts_the_processes_that_it_started() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + 30
            while not psutil.Process(process.pid).children():
                assert time.monotonic() < until
                time.sleep(0.01)
            own = psutil.Process(process.pid).memory_info().rss
            assert process_bytes([process.pid]) > own
            assert process_bytes([process.pid, 2**22 + 1]) > own, "a process that has ended counts nothing"
        finally:
            process.communicate(b"\n")
    assert process_bytes([]) == 0


def test_a_snapshot_that_holds_rows_out_comes_before_newer_ones_without(running: Running) -> None:
    db, folder = running.platform.db, running.platform.paths.snapshots
    (first,) = snapshots.list_all(db)
    later = snapshots.build(db, folder, "assistant", "dpo", 0.0, near_duplicates=None)
    assert later.heldout_rows == 0
    assert newest_snapshot(db, folder, "assistant") == first.id
    assert newest_snapshot(db, folder, "nobody") is None
    assert heldout_rows(db, folder, later.id) == []
    shutil.rmtree(folder / first.id)
    assert newest_snapshot(db, folder, "assistant") == later.id
    with pytest.raises(Conflict, match="is gone"):
        heldout_rows(db, folder, first.id)
