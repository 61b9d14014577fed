"""What triggers of runs count is what a snapshot takes: not what people do not share, or what excluded raters said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from store.accounts import sharing
from store.accounts.owners import owner_of
from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import new_rows, snapshots
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.training_data import likes, pairs
from store.values import Message

METHODS = ("dpo", "sft", "kto")
AT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def taught(db: Store) -> Store:
    """Ada and Bob each asked three questions; Rob voted on them, rewrote answers, and liked and disliked others."""
    for who in ("ada", "bob"):
        owner = owner_of(who, None)
        for n in range(3):
            made = comparisons.create(
                db, f"{who} asks {n}", [Candidate(f"yes {n}"), Candidate("no")], "assistant", owners=[owner]
            )
            comparisons.vote(
                db, made.id, "a", "rob", better=f"Better for {who} by far, {n}.", owner=owner_of("rob", None)
            )
            said = (Message("user", f"{who} says {n}"),)
            turn = Turn(
                f"{who}{n}", f"{who}{n}", said, f"Answer {who} {n}.", "assistant", user=who, created_at=AT
            )
            conversations.record_turns(db, [turn])
            conversations.like(db, turn.completion_id, n > 0, "rob")
    return db


def taken(db: Store, home: Path, method: str, exclude: tuple[str, ...] = ()) -> int:
    """Return the rows of a snapshot; its counting of new rows starts again with it."""
    made = snapshots.build(db, home, "assistant", method, exclude_raters=list(exclude))
    return made.train_rows + made.heldout_rows


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", ["train", "show", "none"])
def test_rows_that_are_not_shared_for_training_do_not_count(
    taught: Store, tmp_path: Path, method: str, share: sharing.Share
) -> None:
    everything = new_rows.count_new(taught, method, "assistant")
    sharing.choose(taught, owner_of("ada", None), share)
    counted = new_rows.count_new(taught, method, "assistant")
    assert counted == new_rows.count_all(taught, method, "assistant")
    assert counted == taken(taught, tmp_path, method)
    assert (counted == everything) is (share == "train")
    assert new_rows.count_new(taught, method, "assistant") == 0


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_rows_of_excluded_raters_do_not_count(taught: Store, tmp_path: Path, method: str) -> None:
    pairs.import_rows(taught, [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(2)], "x")
    likes.import_rows(taught, [{"prompt": f"q{n}", "completion": "a", "label": True} for n in range(2)], "x")
    assert new_rows.count_new(taught, method, "assistant", ["rob"]) == 2
    assert taken(taught, tmp_path, method, ("rob",)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_another_deployment_do_not_count(taught: Store, method: str) -> None:
    assert new_rows.count_new(taught, method, "poet") == 0


def test_held_out_rows_are_fresh_that_no_earlier_snapshot_saw(db: Store, tmp_path: Path) -> None:
    def grow(name: str) -> snapshots.Snapshot:
        rows = [{"prompt": f"{name} {n}", "chosen": "a", "rejected": "b"} for n in range(30)]
        pairs.import_rows(db, rows, name)
        return snapshots.build(db, tmp_path, "assistant", "dpo")

    first, second = grow("old"), grow("new")
    assert new_rows.fresh_members(db, first.id) == set()
    table = pq.read_table(tmp_path / second.id / "heldout.parquet").to_pylist()
    fresh = {row["pair_id"] for row in table if row["prompt"][0]["content"].startswith("new")}
    assert 0 < len(fresh) < len(table)
    assert new_rows.fresh_members(db, second.id) == fresh
