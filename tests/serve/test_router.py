"""Names to targets, and the canary's edge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import UnknownModel
from serve.gateway.responses import card_of, cards
from serve.router import STARTED, Route, RoutingTable, Target, build_table, share
from store.db.database import Store
from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord

ADAPTER = "a-0123456789abcdef"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "t.duckdb") as store:
        deployments.ensure(
            store, "assistant", "tiny", system_prompt="Be brief.", sampling={"temperature": 0.5}
        )
        adapters.record(store, AdapterRecord(hash=ADAPTER, base="tiny", path=f"/x/{ADAPTER}"))
        releases.create(store, "assistant", "tiny", adapter=ADAPTER)
        (tmp_path / ADAPTER).mkdir()
        yield store


def test_every_name_resolves(db: Store, tmp_path: Path) -> None:
    table = build_table(db, ["tiny"], tmp_path)
    stable = table.resolve("assistant", "x")
    assert (stable.model, stable.release, stable.lane, stable.engine_model) == (
        "assistant", "assistant@1", "stable", "tiny",
    )  # fmt: skip
    assert stable.system_prompt == "Be brief."
    assert dict(stable.sampling) == {"temperature": 0.5}
    pinned = table.resolve("assistant@2", "x")
    assert (pinned.lane, pinned.engine_model, pinned.adapter_path) == ("pinned", ADAPTER, tmp_path / ADAPTER)
    assert table.resolve("tiny", "x").lane == "base"
    assert table.names() == ["assistant", "assistant@2", "assistant@1", "tiny"]


def test_an_unknown_name_lists_the_accepted_ones(db: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel) as caught:
        build_table(db, ["tiny"], tmp_path).resolve("gpt-4", "x")
    assert caught.value.status == 404
    assert caught.value.accepted == ["assistant", "assistant@2", "assistant@1", "tiny"]
    assert "assistant@2" in caught.value.message


def test_releases_that_cannot_answer_are_not_listed(db: Store, tmp_path: Path) -> None:
    releases.create(db, "assistant", "gone")
    table = build_table(db, ["tiny"], tmp_path)
    assert table.names() == ["assistant", "assistant@2", "assistant@1", "tiny"], "no engine serves the third"
    (tmp_path / ADAPTER).rmdir()
    table = build_table(db, ["tiny"], tmp_path)
    assert table.names() == ["assistant", "assistant@1", "tiny"], "the second was pruned"
    assert table.resolve("assistant@2", "x").release == "assistant@2", "its own error says why"


def test_recent_releases_and_those_with_traffic_are_listed(db: Store, tmp_path: Path) -> None:
    for _ in range(8):
        releases.create(db, "assistant", "tiny")
    deployments.set_canary(db, "assistant", "assistant@3", 0.1, "me")
    table = build_table(db, ["tiny"], tmp_path)
    listed = [f"assistant@{n}" for n in (10, 9, 8, 7, 6, 3, 1)]
    assert table.names() == ["assistant", *listed, "tiny"]
    assert [card["id"] for card in cards(table)] == table.names()
    assert card_of(table, "assistant@4") is not None, "the others are known by name"


def test_cards_have_the_time_of_their_records(db: Store, tmp_path: Path) -> None:
    table = build_table(db, ["tiny"], tmp_path)
    made = {release.ref: int(release.created_at.timestamp()) for release in releases.list_all(db)}
    made["assistant"] = int(deployments.get(db, "assistant").created_at.timestamp())
    for card in cards(table):
        assert card["created"] == made.get(card["id"], STARTED)
        assert abs(card["created"] - time.time()) < 3600
        assert card["owned_by"] == "trimtab"


def test_canary_promote_and_rollback_show_in_the_table(db: Store, tmp_path: Path) -> None:
    deployments.set_canary(db, "assistant", "assistant@2", 1.0, "me")
    canary = build_table(db, [], tmp_path).resolve("assistant", "x")
    assert (canary.release, canary.lane) == ("assistant@2", "canary")
    deployments.promote(db, "assistant", "me")
    stable = build_table(db, [], tmp_path).resolve("assistant", "x")
    assert (stable.release, stable.lane) == ("assistant@2", "stable")
    deployments.rollback(db, "assistant", "me")
    assert build_table(db, [], tmp_path).resolve("assistant", "x").release == "assistant@1"


def target(release: str) -> Target:
    return Target("m", "m", release, release, "b")


def lanes(weight: float, keys: list[str]) -> set[str]:
    table = RoutingTable({"m": Route(target("m@1"), target("m@2"), weight)})
    return {key for key in keys if table.resolve("m", key).release == "m@2"}


@given(st.floats(0, 1), st.floats(0, 1))
def test_changing_the_weight_only_moves_the_edge(one: float, other: float) -> None:
    keys = [f"conversation-{n}" for n in range(300)]
    low, high = sorted((one, other))
    assert lanes(low, keys) <= lanes(high, keys)


@given(st.text(max_size=50), st.text(max_size=50))
def test_the_share_is_a_fraction_and_deterministic(deployment: str, key: str) -> None:
    assert 0 <= share(deployment, key) < 1
    assert share(deployment, key) == share(deployment, key)


def test_the_weight_is_the_share_of_keys() -> None:
    keys = [f"k{n}" for n in range(20_000)]
    assert len(lanes(0.1, keys)) / len(keys) == pytest.approx(0.1, abs=0.01)
    assert lanes(0.0, keys) == set()
    assert lanes(1.0, keys) == set(keys)
