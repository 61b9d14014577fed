"""Rows remember under which release an answer was given and how it ended, and a snapshot carries that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import deployments, releases
from store.training_data import pairs
from store.values import Message

ASKED = (Message("user", "Name a bird."),)
SYSTEM = [{"role": "system", "content": "Be brief."}]


def releases_of(db: Store) -> tuple[str, str]:
    """Record ids of a release with a system prompt and of one without."""
    first = deployments.ensure(db, "assistant", "base", system_prompt="Be brief.").stable
    return first, releases.create(db, "assistant", "base").id


def frozen(db: Store, tmp_path: Path, method: str) -> list[dict[str, Any]]:
    made = snapshots.build(db, tmp_path / "snapshots", "assistant", method, heldout_fraction=0.0)
    rows: list[dict[str, Any]] = pq.read_table(Path(made.directory) / "train.parquet").to_pylist()
    return rows


def compare(db: Store, a: Candidate, b: Candidate, choice: str, **more: Any) -> None:
    made = comparisons.create(db, ASKED, [a, b], deployment="assistant")
    swapped = made.a.content != a.content
    choice = "b" if swapped == (choice == "first") else "a"
    comparisons.vote(db, made.id, choice, "ada", **more)


def test_a_pair_has_the_system_prompt_under_which_its_chosen_answer_was_given(
    db: Store, tmp_path: Path
) -> None:
    prompted, plain = releases_of(db)
    compare(db, Candidate("A wren.", prompted), Candidate("An owl.", plain), "first")
    compare(db, Candidate("A duck.", prompted), Candidate("A crow.", plain), "second")
    compare(db, Candidate("A kite.", lane="base"), Candidate("A jay.", prompted), "first")
    compare(db, Candidate("A tit.", "rel-gone"), Candidate("A rook.", prompted), "first")
    pairs.import_rows(db, [{"prompt": "Bird?", "chosen": "A gull.", "rejected": "None."}], "file")
    contexts = {row["chosen"][0]["content"]: row["context"] for row in frozen(db, tmp_path, "dpo")}
    assert contexts == {
        "A wren.": SYSTEM,
        "A crow.": [],
        "A kite.": [],
        "A tit.": None,
        "A gull.": None,
    }


def test_pair_records_which_answer_was_cut(db: Store, tmp_path: Path) -> None:
    compare(
        db,
        Candidate("A wren.", finish_reason="stop"),
        Candidate("An owl is a", finish_reason="length"),
        "first",
        better="A robin.",
    )
    found = {
        (row["chosen"][0]["content"], row["rejected"][0]["content"]): (
            row["chosen_finish_reason"],
            row["rejected_finish_reason"],
        )
        for row in frozen(db, tmp_path, "dpo")
    }
    assert found == {
        ("A wren.", "An owl is a"): ("stop", "length"),
        ("A robin.", "A wren."): (None, "stop"),
        ("A robin.", "An owl is a"): (None, "length"),
    }


def test_a_like_and_its_demonstration_know_release_and_end(db: Store, tmp_path: Path) -> None:
    prompted, _ = releases_of(db)
    turn = {"deployment": "assistant", "release": prompted}
    conversations.record_turns(
        db,
        [
            Turn("c1", "conv-1", ASKED, "A wren.", finish_reason="stop", **turn),
            Turn("c2", "conv-2", ASKED, "An owl is", finish_reason="length", **turn),
            Turn("c3", "conv-3", ASKED, "A du", error="the engine stopped", **turn),
        ],
    )
    for completion in ("c1", "c2", "c3"):
        conversations.like(db, completion, True, "ada")
    for method in ("sft", "kto"):
        rows = frozen(db, tmp_path, method)
        assert {row["completion"][0]["content"]: row["completion_finish_reason"] for row in rows} == {
            "A wren.": "stop",
            "An owl is": "length",
            "A du": "error",
        }
        assert all(row["context"] == SYSTEM for row in rows)


def test_a_rewrite_of_two_releases_answers_is_bound_to_neither(db: Store, tmp_path: Path) -> None:
    prompted, plain = releases_of(db)
    compare(db, Candidate("A wren.", prompted), Candidate("An owl.", plain), "first", better="A robin.")
    compare(db, Candidate("A rook.", prompted), Candidate("A jay.", prompted), "first", better="A tit.")
    contexts = {row["completion"][0]["content"]: row["context"] for row in frozen(db, tmp_path, "sft")}
    assert contexts == {"A robin.": None, "A tit.": SYSTEM}


def test_the_same_answers_under_another_system_prompt_are_another_dataset(db: Store, tmp_path: Path) -> None:
    prompted, plain = releases_of(db)
    compare(db, Candidate("A wren.", prompted), Candidate("An owl.", prompted), "first")
    first = snapshots.build(db, tmp_path, "assistant", "dpo", heldout_fraction=0.0)
    with db.atomic() as cursor:
        cursor.execute("update pairs set release = $plain", {"plain": plain})
    assert snapshots.build(db, tmp_path, "assistant", "dpo", heldout_fraction=0.0).id != first.id


def test_rows_of_an_older_store_learn_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    with Store.open(path, version=10) as older, older.atomic() as cursor:
        prompt = "[{'role': 'user', 'content': 'Name a bird.'}]"
        cursor.execute(
            f"""
                insert into completions (id, conversation_id, deployment, release, finish_reason, created_at)
                values ('c1', 'conv-1', 'assistant', 'rel-1', 'length', now()::timestamp);
                insert into comparisons (id, messages, prompt_hash, versus_hash, deployment, source, state, votes_wanted,
                    votes_given, created_at)
                values ('cmp-1', {prompt}, 'p', 'v', 'assistant', 'shadow', 'decided', 1, 1, now()::timestamp);
                insert into candidates (comparison_id, side, content, release, completion_id)
                values ('cmp-1', 'a', 'A wre', 'rel-1', 'c1'), ('cmp-1', 'b', 'An owl.', 'rel-2', null);
                insert into votes (id, comparison_id, rater, choice, tags, created_at)
                values ('vote-1', 'cmp-1', 'ada', 'a', [], now()::timestamp);
                insert into pairs (id, content_hash, versus_hash, prompt_hash, prompt, chosen, rejected, prompt_chars,
                    chosen_chars, rejected_chars, weight, tags, deployment, source, created_at)
                values ('pair-1', 'h', 'v', 'p', {prompt}, [{{'role': 'assistant', 'content': 'A wre'}}],
                    [{{'role': 'assistant', 'content': 'An owl.'}}], 1, 1, 1, 1.0, [], 'assistant', 'vote',
                    now()::timestamp);
                insert into evidence values ('pair-1', 'vote', 'vote-1', 'ada', now()::timestamp);
                insert into likes (id, completion_id, content_hash, prompt_hash, prompt, completion, liked, deployment,
                    source, created_at)
                values ('like-1', 'c1', 'h', 'p', {prompt}, [{{'role': 'assistant', 'content': 'A wre'}}], true,
                    'assistant', 'chat', now()::timestamp);
                insert into demonstrations (id, content_hash, prompt_hash, prompt, completion, prompt_chars,
                    completion_chars, tags, deployment, source, created_at)
                values ('demo-1', 'h', 'p', {prompt}, [{{'role': 'assistant', 'content': 'A wre'}}], 1, 1, [],
                    'assistant', 'like', now()::timestamp);
                insert into evidence values ('demo-1', 'like', 'c1', 'ada', now()::timestamp);
                """
        )
    with Store.open(path) as store:
        rows = store.read().execute(
            """
            select release, chosen_finish_reason, rejected_finish_reason from pairs
            union all by name select release, completion_finish_reason as chosen_finish_reason from likes
            union all by name select release, completion_finish_reason as chosen_finish_reason from demonstrations
            """
        )
        assert rows.fetchall() == [("rel-1", "length", None)] * 3
        assert comparisons.get(store, "cmp-1").a.finish_reason == "length"
