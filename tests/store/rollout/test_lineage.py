"""From a release to what trained it, from a person or a pair to every release, and the erasure of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store
from store.errors import Invalid
from store.privacy import erasure
from store.rollout import adapters, deployments, lineage, releases, runs
from store.rollout.adapters import AdapterRecord
from store.training_data import pairs
from store.values import Message
from tests.store.trained_releases import refs, trained, vote


def test_lineage_goes_both_ways(db: Store, tmp_path: Path) -> None:
    first_pair = vote(db, "q1", "ada")
    vote(db, "q2", "ada")
    vote(db, "q3", "bob")
    pairs.import_rows(db, [{"prompt": "q4", "chosen": "x", "rejected": "y"}], "file.jsonl")
    second, snapshot = trained(db, tmp_path, "a-1")
    late_pair = vote(db, "q5", "cy")
    third, _ = trained(db, tmp_path, "a-2", start="a-1", replay=0.0)

    found = lineage.of_release(db, releases.get(db, second.ref))
    assert (found["adapter"]["id"], found["run"]["id"], found["snapshot"]["id"]) == (
        "a-1",
        second.run,
        snapshot.hash,
    )
    assert (found["pairs"], found["prompts"], found["ancestors"]) == (4, 4, [])
    assert found["raters"] == [{"name": "ada", "rows": 2}, {"name": "bob", "rows": 1}]
    assert found["imports"] == [{"source": "file.jsonl", "rows": 1}]

    on_top = lineage.of_release(db, releases.get(db, third.id))
    assert refs(on_top["ancestors"]) == ["assistant@2"]
    assert on_top["pairs"] == 5
    assert [rater["name"] for rater in on_top["raters"]] == ["ada", "bob", "cy"]

    assert refs(lineage.of_pair(db, first_pair)) == ["assistant@2", "assistant@3"]
    assert refs(lineage.of_pair(db, late_pair)) == ["assistant@3"]
    assert refs(lineage.of_person(db, "cy")) == ["assistant@3"]
    assert lineage.of_person(db, "nobody") == []

    def asked(column: str, where: str) -> list[str]:
        found = db.read().execute(f"select distinct {column} from release_lineage where {where} order by 1")
        return [row[0] for row in found.fetchall()]

    assert asked("ref", f"item_id = '{first_pair}'") == ["assistant@2", "assistant@3"]
    assert asked("ref", "person = 'cy'") == ["assistant@3"]
    assert asked("person", "ref = 'assistant@3' and person is not null") == ["ada", "bob", "cy"]
    assert (
        len(asked("comparison", "ref = 'assistant@2' and comparison is not null"))
        == 3
        == found["comparisons"]
    )
    assert len(asked("prompt_hash", "ref = 'assistant@3'")) == on_top["prompts"] == 5


def test_the_rows_behind_a_release_come_in_pages(db: Store, tmp_path: Path) -> None:
    for n in range(4):
        vote(db, f"q{n}", "ada")
    pairs.import_rows(db, [{"prompt": "q4", "chosen": "x", "rejected": "y"}], "file.jsonl")
    second, first_snapshot = trained(db, tmp_path, "a-1")
    vote(db, "q0", "bob")
    vote(db, "late", "cy")
    third, _ = trained(db, tmp_path, "a-2", start="a-1")
    found: list[dict[str, Any]] = []
    while part := lineage.page(db, third, limit=2, after=found[-1]["id"] if found else None):
        found += part
    assert [row["prompt"][0]["content"] for row in found] == ["q0", "q1", "q2", "q3", "q4", "late"]
    assert found == lineage.page(db, third)
    assert [row["raters"] for row in found] == [["ada", "bob"], *[["ada"]] * 3, [], ["cy"]]
    assert [len(row["comparisons"]) for row in found] == [2, 1, 1, 1, 0, 1]
    assert {row["split"] for row in found} == {"train"}
    assert all(row["snapshot"] != first_snapshot.hash for row in found)
    assert [row["weight"] for row in found] == pytest.approx([1 / 2, *[1 / 3] * 5])
    assert len(lineage.page(db, second)) == lineage.of_release(db, releases.get(db, second.ref))["pairs"] == 5

    erasure.erase_person(db, "cy")
    gone = lineage.page(db, third)[-1]
    assert (gone["id"], gone["erased"], gone["prompt"], gone["raters"]) == (found[-1]["id"], True, None, [])
    assert lineage.page(db, third, "likes") == lineage.page(db, releases.get(db, "assistant@1")) == []
    with pytest.raises(Invalid, match="noun"):
        lineage.page(db, third, "votes")


def test_rows_behind_that_were_held_out_say_so(db: Store, tmp_path: Path) -> None:
    for n in range(12):
        vote(db, f"question {n} on {chr(97 + n) * 8}", "ada")
    release, snapshot = trained(db, tmp_path, "a-1", heldout_fraction=0.3)
    splits = [row["split"] for row in lineage.page(db, release)]
    assert (splits.count("train"), splits.count("heldout")) == (snapshot.train_rows, snapshot.heldout_rows)
    assert snapshot.heldout_rows > 0


def test_a_held_out_row_taught_nothing(db: Store, tmp_path: Path) -> None:
    made = [vote(db, f"question {n} on {chr(97 + n) * 8}", "ada") for n in range(12)]
    deployments.ensure(db, "assistant", "smol")
    snapshot = snapshots.build(db, tmp_path, "assistant", "dpo", 0.3)
    run = runs.create(db, "dpo", "assistant")
    runs.move(db, run.id, "snapshot", snapshot=snapshot.hash)
    adapters.record(db, AdapterRecord("a-1", "smol", "/a-1", run=run.id))
    releases.create(db, "assistant", "smol", "a-1", run=run.id)
    assert sum(len(lineage.of_pair(db, pair)) for pair in made) == snapshot.train_rows


def test_lineage_of_a_release_lists_likes_until_they_are_erased(db: Store, tmp_path: Path) -> None:
    for n, who in enumerate(("ada", "bob")):
        asked = (Message("user", f"Question {n}"),)
        conversations.record_turns(db, [Turn(f"c{n}", f"v{n}", asked, "Yes.", "assistant", user=who)])
        conversations.like(db, f"c{n}", n == 0, who)
    deployments.ensure(db, "assistant", "smol")
    snapshot = snapshots.build(db, tmp_path / "s", "assistant", "kto", 0.0)
    run = runs.create(db, "kto", "assistant", recipe="thumbs")
    runs.move(db, run.id, "snapshot")
    runs.move(db, run.id, "training", snapshot=snapshot.hash)
    adapters.record(db, AdapterRecord("a-1", "smol", "/a-1", run=run.id))
    made = releases.create(db, "assistant", "smol", "a-1", run=run.id)
    assert [row["raters"] for row in lineage.page(db, made, "likes")] == [["ada"], ["bob"]]
    found = lineage.of_release(db, releases.get(db, made.ref))
    assert (found["likes"], found["pairs"], found["demonstrations"]) == (2, 0, 0)
    assert {row["name"] for row in found["raters"]} == {"ada", "bob"}
    assert refs(lineage.of_person(db, "bob")) == [made.ref]
    gone = erasure.erase_person(db, "bob")
    assert refs(gone.releases) == [made.ref]
    assert [row["ref"] for row in erasure.flagged(db)] == [made.ref]
    assert erasure.clean_start(db, "a-1") is None
