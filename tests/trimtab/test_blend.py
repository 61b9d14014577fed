"""`POST /api/releases/blend` and its command: what is refused, in words, before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord
from tests.trimtab.conftest import BASE, problem
from trimtab.cli import app
from trimtab.platform import Platform


@pytest.fixture
def named(platform: Platform) -> None:
    """assistant@2 to @4 with adapters of rank 4, 4 and 8, assistant@5 with that of @2, other@1 and elsewhere@1."""
    deployments.ensure(platform.db, "assistant", BASE)
    deployments.ensure(platform.db, "other", BASE)
    for n, rank in ((1, 4), (2, 4), (3, 8), (4, 4)):
        name = f"a-{n:016x}"
        adapters.record(platform.db, AdapterRecord(hash=name, base=BASE, path="nowhere", rank=rank))
        (platform.paths.adapters / name).mkdir(parents=True)
        releases.create(platform.db, "other" if n == 4 else "assistant", BASE, adapter=name)
    releases.create(platform.db, "assistant", BASE, adapter=f"a-{1:016x}", system_prompt="Be brief.")
    adapters.record(platform.db, AdapterRecord(hash="a-elsewhere", base="big", path="nowhere", rank=4))
    releases.create(platform.db, "assistant", "big", adapter="a-elsewhere")


@pytest.mark.parametrize(
    ("parts", "more", "field", "why"),
    [
        ([], {}, "releases", "at least 1"),
        ([("assistant@2", 0)], {}, "releases", "weight 0"),
        ([("assistant@2", 11)], {}, "releases.0.weight", "less than or equal to 10"),
        ([("assistant@2", 1), ("assistant@1", 1)], {}, "releases", "assistant@1 has no adapter"),
        ([("assistant@2", 1), ("other@2", 1)], {}, "releases", "other@2 is of other"),
        ([("assistant@2", 1), ("assistant@6", 1)], {}, "releases", "assistant@6 is on big"),
        ([("assistant@2", 1), ("assistant@5", 1)], {}, "releases", "named twice"),
        ([("assistant@6", 1)], {}, "releases", "'big' is served by no engine"),
        ([("assistant@2", 1)], {"combination": "average"}, "combination", "'cat'"),
        ([("assistant@2", 1)], {"rank": 4}, "rank", "cat takes no rank"),
        ([("assistant@2", 1)], {"density": 0.5}, "density", "cat prunes nothing"),
        ([("assistant@2", 1)], {"combination": "ties", "density": 1.5}, "density", "less than or equal to 1"),
        ([("assistant@2", 1), ("assistant@4", 1)], {"combination": "linear"}, "combination", "have 4, 8"),
        ([("assistant@2", 1)], {"combination": "svd", "rank": 128}, "rank", "up to 64"),
    ],
)
def test_what_cannot_be_combined_is_refused_by_field(
    client: TestClient,
    platform: Platform,
    named: None,
    parts: list[tuple[str, float]],
    more: dict[str, Any],
    field: str,
    why: str,
) -> None:
    before = releases.list_all(platform.db)
    body = {"releases": [{"release": release, "weight": weight} for release, weight in parts], **more}
    fault = problem(client.post("/api/releases/blend", json=body), 422)
    assert fault["field"] == field
    assert why in fault["detail"]
    assert "accepted" in fault or not parts
    assert releases.list_all(platform.db) == before


def test_ranks_that_add_up_to_more_than_is_served_are_refused(
    client: TestClient, platform: Platform, named: None
) -> None:
    body = {"releases": [{"release": f"assistant@{n}", "weight": 0.5} for n in (2, 3)]}
    wide = AdapterRecord(hash="a-wide", base=BASE, path="nowhere", rank=64)
    adapters.record(platform.db, wide)
    (platform.paths.adapters / wide.hash).mkdir()
    made = releases.create(platform.db, "assistant", BASE, adapter=wide.hash)
    body["releases"][0]["release"] = made.ref
    fault = problem(client.post("/api/releases/blend", json=body), 422)
    assert (fault["field"], fault["accepted"]) == ("combination", "an svd kind with a rank of at most 64")
    assert "rank 68" in fault["detail"]


def test_a_pruned_adapter_and_an_unknown_release_are_named(
    client: TestClient, platform: Platform, named: None
) -> None:
    (platform.paths.adapters / f"a-{2:016x}").rmdir()
    body = {"releases": [{"release": "assistant@3", "weight": 1}]}
    assert "assistant@3 was pruned" in problem(client.post("/api/releases/blend", json=body), 409)["detail"]
    body["releases"][0]["release"] = "assistant@99"
    problem(client.post("/api/releases/blend", json=body), 404)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["assistant@3"], "assistant@3 has no weight; accepted: RELEASE:WEIGHT"),
        (["assistant@3:much"], "'much' in assistant@3:much is no number"),
        (["assistant@3:1", "assistant@3:2"], "assistant@3 is named twice"),
    ],
)
def test_the_command_names_a_wrong_weight(given: list[str], why: str) -> None:
    result = CliRunner().invoke(app, ["releases", "blend", *given])
    assert result.exit_code == 2
    assert why in " ".join(result.output.split())
