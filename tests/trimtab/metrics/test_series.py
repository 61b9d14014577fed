"""The loop's series at /metrics, and the alert rules and the dashboard that are made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from store.errors import StoreError
from store.feedback import comparisons
from store.feedback.comparison import Candidate
from store.rollout import deployments, releases
from store.training_data import pairs
from store.values import Message
from tests.trimtab.conftest import BASE, judged
from trimtab.metrics.series import LoopSeries
from trimtab.platform import Platform

DEPLOY = Path(__file__).parents[3] / "deploy"


def series(client: TestClient) -> dict[str, float]:
    """The samples of /metrics by their whole name."""
    lines = client.get("/metrics").text.splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")
    }


def test_the_loop_is_shown_from_votes_to_the_canary(platform: Platform, client: TestClient) -> None:
    stable = deployments.get(platform.db, "assistant").stable
    other = releases.create(platform.db, "assistant", BASE)
    candidates = [
        Candidate(text, release.id)
        for release, text in ((other, "a"), (releases.get(platform.db, stable), "b"))
    ]
    made = comparisons.create(platform.db, [Message("user", "Hi")], candidates, "assistant", "typed")
    comparisons.vote(platform.db, made.id, "a", "ada")
    pairs.import_rows(platform.db, [{"prompt": "One?", "chosen": "yes", "rejected": "no"}], "test")
    judged(platform, "none", "fail")
    deployments.set_canary(platform.db, "assistant", other.id, 0.2, "ada")
    found = series(client)
    assert found["trimtab_votes_total"] == 1
    assert found['trimtab_comparisons{state="decided"}'] == 1
    assert found['trimtab_rows{kind="pairs"}'] == 2
    assert found['trimtab_rows_waiting{deployment="assistant",method="dpo"}'] == 2
    assert found['trimtab_runs{deployment="assistant",state="evaluating"}'] == 1
    assert found['trimtab_gate_verdicts_total{deployment="assistant",verdict="fail"}'] == 1
    assert found['trimtab_canary_weight{deployment="assistant"}'] == 0.2
    assert found['trimtab_canary_win_rate_low{deployment="assistant"}'] == 0
    assert 0 < found["trimtab_store_query_seconds"] < 60
    assert "trimtab_rater_agreement_alpha" not in found, "nobody voted twice"


def named_in(text: str) -> set[str]:
    return set(re.findall(r"\btrimtab_[a-z_]+", text))


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/trimtab.json"])
def test_every_series_that_is_asked_for_exists(file: str, client: TestClient) -> None:
    text = (DEPLOY / file).read_text()
    if file.endswith(".json"):
        asked = named_in(
            " ".join(target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"])
        )
    else:
        rules = yaml.safe_load(text)["groups"][0]["rules"]
        asked = named_in(" ".join(rule["expr"] for rule in rules))
        assert all({"summary", "description"} <= rule["annotations"].keys() for rule in rules)
    shown = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics").text, re.MULTILINE))
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= shown
    assert asked


@pytest.mark.anyio
async def test_figures_are_read_once_for_a_while_and_kept_where_the_store_fails() -> None:
    reads = 0

    async def read() -> None:
        nonlocal reads
        reads += 1
        raise StoreError("the disk is gone")

    found = LoopSeries(read)  # type: ignore[arg-type]
    await found.refresh()
    await found.refresh()
    assert reads == 1
    assert list(found.collect()) == []
