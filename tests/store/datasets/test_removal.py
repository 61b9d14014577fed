"""A single row is taken out of the training data: with a reason, audited, and with what it alone gave rise to."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.accounts import audit
from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store
from store.db.rows import scalar
from store.errors import Invalid, NotFound
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance.verify import verify
from store.training_data import demonstrations, pairs, removal
from store.values import Message


def test_a_removed_pair_is_in_no_later_snapshot_and_its_vote_stays(db: Store, tmp_path: Path) -> None:
    made = comparisons.create(db, "Bird?", [Candidate("A wren."), Candidate("An owl.")], "assistant")
    vote = comparisons.vote(db, made.id, "a", "ada")
    pairs.import_rows(db, [{"prompt": "p", "chosen": "x", "rejected": "y"}], "file")
    before = snapshots.build(db, tmp_path, "assistant", "dpo", heldout_fraction=0.0)
    done = removal.remove(db, "pairs", vote.pairs[0], "a slip of the mouse", "ops")
    assert done == {"id": vote.pairs[0], "reason": "a slip of the mouse", "releases": []}
    after = snapshots.build(db, tmp_path, "assistant", "dpo", heldout_fraction=0.0)
    assert (before.train_rows, after.train_rows) == (2, 1)
    assert comparisons.votes(db, made.id)[0].pairs == ()
    entry = audit.list_recent(db, 1)[0]
    assert (entry.actor, entry.action, entry.subject) == ("ops", "pair.remove", vote.pairs[0])
    assert entry.detail == {"reason": "a slip of the mouse", "releases": []}
    assert verify(db) == []


def test_a_removed_like_takes_its_demonstration_along(db: Store) -> None:
    turn = Turn("c1", "conv-1", (Message("user", "Bird?"),), "A wren.", deployment="assistant")
    conversations.record_turns(db, [turn])
    conversations.like(db, "c1", True, "ada")
    like = str(scalar(db.read(), "select id from likes"))
    removal.remove(db, "likes", like, "not meant", "ops")
    assert demonstrations.count(db) == 0
    assert scalar(db.read(), "select count(*) from likes") == 0
    assert verify(db) == []


def test_a_demonstration_is_removed(db: Store) -> None:
    demonstrations.import_rows(db, [{"prompt": "p", "completion": "x"}], "file")
    [row] = demonstrations.list_page(db)
    removal.remove(db, "demonstrations", row.id, "the template refuses it", None)
    assert demonstrations.count(db) == 0


def test_a_removal_needs_a_row_and_a_reason(db: Store) -> None:
    with pytest.raises(NotFound, match="pair"):
        removal.remove(db, "pairs", "pair-0", "why", None)
    with pytest.raises(Invalid, match="reason"):
        removal.remove(db, "pairs", "pair-0", "  ", None)
    with pytest.raises(Invalid, match="noun"):
        removal.remove(db, "votes", "vote-0", "why", None)
