"""Snapshots: split by prompt, the same data gives the same hash, votes are weighed."""

from __future__ import annotations

import json
import random
import string
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import new_rows, parquet_writer, snapshots
from store.datasets.snapshots import Snapshot
from store.db.database import Store
from store.errors import Invalid, NotFound
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.privacy import erasure
from store.training_data import demonstrations, likes, pairs
from store.values import Message


def rows(count: int, prefix: str = "question") -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"{prefix} {n // 2} about {chr(97 + n // 2 % 26) * 9}",
            "chosen": f"right {n}",
            "rejected": f"wrong {n}",
        }
        for n in range(count)
    ]


def read(snapshot: Snapshot, split: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(Path(snapshot.directory) / f"{split}.parquet").to_pylist()
    return table


def prompts(part: list[dict[str, Any]]) -> set[str]:
    return {json.dumps(row["prompt"]) for row in part}


def test_files_columns_and_split_by_prompt(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(200), "test")
    made = snapshots.build(db, tmp_path / "s", "assistant", "dpo", 0.2)
    train, heldout = read(made, "train"), read(made, "heldout")
    assert (len(train), len(heldout)) == (made.train_rows, made.heldout_rows)
    assert len(train) + len(heldout) == 200
    assert 10 < len(heldout) < 80
    assert not prompts(train) & prompts(heldout)
    assert list(train[0])[:5] == ["pair_id", "prompt", "chosen", "rejected", "weight"]
    assert train[0]["chosen"] == [{"role": "assistant", "content": train[0]["chosen"][0]["content"]}]
    assert pairs.get(db, train[0]["pair_id"]).pair.chosen[0].content == train[0]["chosen"][0]["content"]
    assert sorted(path.name for path in Path(made.directory).iterdir()) == [
        "heldout.parquet", "report.md", "snapshot.json", "train.parquet",
    ]  # fmt: skip
    assert made.id in (Path(made.directory) / "report.md").read_text()
    assert snapshots.get(db, made.hash) == made
    assert [path.name for path in (tmp_path / "s").iterdir()] == [made.hash]
    with pytest.raises(NotFound):
        snapshots.get(db, "s-0")


def test_the_same_data_and_settings_give_the_same_hash(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(40), "test")
    first = snapshots.build(db, tmp_path / "s", "assistant", "dpo")
    assert snapshots.build(db, tmp_path / "s", "assistant", "dpo") == first
    assert snapshots.list_all(db) == [first]
    with Store.open(tmp_path / "other.duckdb") as other:
        pairs.import_rows(other, rows(40)[::-1], "elsewhere")
        assert snapshots.build(other, tmp_path / "t", "assistant", "dpo").hash == first.hash
    assert snapshots.build(db, tmp_path / "s", "assistant", "dpo", seed=1).hash != first.hash
    pairs.import_rows(db, rows(1, "new"), "test")
    assert snapshots.build(db, tmp_path / "s", "assistant", "dpo").hash != first.hash


def test_count_new_starts_again_at_each_snapshot(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(10), "test")
    assert new_rows.count_new(db, "dpo", "assistant") == 10
    snapshots.build(db, tmp_path, "assistant", "dpo")
    assert new_rows.count_new(db, "dpo", "assistant") == 0
    pairs.import_rows(db, rows(3, "more"), "test")
    assert new_rows.count_new(db, "dpo", "assistant") == 3
    assert new_rows.count_new(db, "dpo", "poet") == 13


def test_each_method_counts_its_own_new_rows(db: Store, tmp_path: Path) -> None:
    liked = [{"prompt": f"q{n}", "completion": "a", "label": n % 2 == 0} for n in range(6)]
    likes.import_rows(db, liked, "test", deployment="assistant")
    pairs.import_rows(db, rows(10), "test")
    snapshots.build(db, tmp_path, "assistant", "dpo")
    assert (new_rows.count_new(db, "kto", "assistant"), new_rows.count_new(db, "kto", "poet")) == (6, 0)
    snapshots.build(db, tmp_path, "assistant", "kto")
    assert (new_rows.count_new(db, "kto", "assistant"), new_rows.count_new(db, "dpo", "assistant")) == (0, 0)


@pytest.mark.parametrize("count", [2, 3, 5, 24])
def test_small_data_has_both_sides(db: Store, tmp_path: Path, count: int) -> None:
    pairs.import_rows(db, [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(count)], "test")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.1)
    assert made.heldout_rows >= 1
    assert made.train_rows >= 1


def test_one_prompt_is_trained_on(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(2), "test")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.5)
    assert (made.train_rows, made.heldout_rows) == (2, 0)
    assert read(made, "heldout") == []


def test_nothing_to_train_on(db: Store, tmp_path: Path) -> None:
    for method in ("dpo", "sft"):
        with pytest.raises(Invalid, match="at least one row"):
            snapshots.build(db, tmp_path / "s", "assistant", method)
    pairs.import_rows(db, rows(4), "test", deployment="poet")
    with pytest.raises(Invalid):
        snapshots.build(db, tmp_path / "s", "assistant", "dpo")
    assert not (tmp_path / "s").exists()
    assert snapshots.list_all(db) == []


@pytest.mark.parametrize(
    "settings",
    [{"heldout_fraction": 0.9}, {"seed": -1}, {"ties": "x"}, {"replay": 2}, {"max_per_prompt": 0}, {"colour": 1},
     {"exclude_raters": "ada"}, {"near_duplicates": 0.1}, {"min_weight": "x"}],
)  # fmt: skip
def test_bad_settings_are_named(db: Store, tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        snapshots.build(db, tmp_path, "assistant", "dpo", **settings)
    assert next(iter(settings)) in (caught.value.field, caught.value.value)


def test_demonstrations_become_sft_rows(db: Store, tmp_path: Path) -> None:
    demonstrations.import_rows(db, [{"prompt": f"q{n}", "completion": "a"} for n in range(10)], "test")
    made = snapshots.build(db, tmp_path, "assistant", "sft", 0.2)
    assert list(read(made, "train")[0])[:4] == ["demo_id", "prompt", "completion", "weight"]
    assert made.train_rows + made.heldout_rows == 10


def vote(db: Store, question: str, verdicts: dict[str, str], deployment: str | None = "assistant") -> None:
    """Let raters choose between "good" and "bad"."""
    made = comparisons.create(
        db,
        (Message("user", question),),
        [Candidate("good"), Candidate("bad")],
        deployment,
        votes_wanted=len(verdicts),
    )
    for rater, verdict in verdicts.items():
        side = verdict if verdict == "tie" else ("a" if made.a.content == verdict else "b")
        comparisons.vote(db, made.id, side, rater)


def outcome(db: Store, tmp_path: Path, **settings: Any) -> dict[str, tuple[str, float]]:
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, **settings)
    return {
        row["prompt"][0]["content"]: (row["chosen"][0]["content"], round(row["weight"], 6))
        for row in read(made, "train")
    }


def test_conflicting_votes_are_decided_by_majority_with_confidence_as_weight(
    db: Store, tmp_path: Path
) -> None:
    vote(db, "unanimous", {"ada": "good", "bob": "good"})
    vote(db, "majority", {"ada": "good", "bob": "good", "cy": "bad", "di": "tie"})
    vote(db, "divided", {"ada": "good", "bob": "bad"})
    vote(db, "tied", {"ada": "tie"})
    assert outcome(db, tmp_path) == {"unanimous": ("good", 0.5), "majority": ("good", 0.2)}
    assert outcome(db, tmp_path, ties="discount")["majority"] == ("good", round(1 / 6, 6))


def test_a_tie_in_an_order_of_several_lowers_no_weight(db: Store, tmp_path: Path) -> None:
    vote(db, "unanimous", {"ada": "good", "bob": "good"})

    def weight(ties: str) -> float:
        made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, ties=ties)
        (found,) = [row["weight"] for row in read(made, "train") if row["rejected"][0]["content"] == "bad"]
        return float(found)

    before = weight("discount")
    candidates = [Candidate(text) for text in ("good", "bad", "other")]
    messages = [Message("user", "unanimous")]
    drawn = (comparisons.create(db, messages, candidates, "assistant") for _ in range(200))
    # the question that a comparison is filed under is that of its first two
    three = next(made for made in drawn if {made.a.content, made.b.content} == {"good", "bad"})
    sides = {candidate.content: side for side, candidate in three.sides.items()}
    cast = comparisons.vote(
        db, three.id, None, "cy", ranking=[[sides["good"], sides["bad"]], [sides["other"]]]
    )
    assert cast.choice == "tie"
    assert weight("ignore") == weight("discount") == before


def test_two_comparisons_of_the_same_texts_are_one_question(db: Store, tmp_path: Path) -> None:
    vote(db, "q", {"ada": "good"})
    vote(db, "q", {"bob": "good"})
    vote(db, "q", {"cy": "bad"})
    assert outcome(db, tmp_path) == {"q": ("good", 0.2)}


def test_a_pair_of_every_deployment_and_of_one_is_one_row(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(2), "test")
    pairs.import_rows(db, rows(2), "test", deployment="assistant")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    assert made.train_rows == 2
    assert made.report["dropped"] == {"exact duplicate": 2}


def test_deployments_that_share_rows_have_snapshots_of_their_own(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(10), "test")
    made = [snapshots.build(db, tmp_path, deployment, "dpo") for deployment in ("assistant", "poet")]
    assert [snapshot.deployment for snapshot in made] == ["assistant", "poet"]
    assert snapshots.build(db, tmp_path, "assistant", "dpo") == made[0]
    assert [new_rows.count_new(db, "dpo", deployment) for deployment in ("assistant", "poet")] == [0, 0]
    assert "DPO rows for `poet`" in (tmp_path / made[1].hash / "report.md").read_text()


def test_same_rows_of_others_after_an_erasure_are_a_new_snapshot(db: Store, tmp_path: Path) -> None:
    asked = [
        comparisons.create(
            db, f"public question {n}", [Candidate("good"), Candidate("bad")], "assistant", votes_wanted=2
        )
        for n in range(4)
    ]
    for one in asked:
        comparisons.vote(db, one.id, "a", "ada")
    before = snapshots.build(db, tmp_path, "assistant", "dpo", 0.3)
    erasure.erase_person(db, "ada")
    for one in asked:
        comparisons.vote(db, one.id, "a", "bob")
    after = snapshots.build(db, tmp_path, "assistant", "dpo", 0.3)
    assert after.hash != before.hash
    assert after.report == before.report
    held = read(after, "train") + read(after, "heldout")
    assert {row["pair_id"] for row in held} == {pair.id for pair in pairs.list_page(db)}
    assert snapshots.build(db, tmp_path, "assistant", "dpo", 0.3) == after
    assert verify.verify(db) == []


def test_trained_rows_are_not_held_out_when_near_duplicates_arrive(db: Store, tmp_path: Path) -> None:
    chance = random.Random(3)
    asked = [
        " ".join(chance.choice(string.ascii_lowercase) * 5 + str(chance.randrange(99)) for _ in range(30))
        for _ in range(60)
    ]

    def sides() -> dict[str, str]:
        made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.4)
        return {
            row["prompt"][0]["content"]: split for split in ("train", "heldout") for row in read(made, split)
        }

    pairs.import_rows(
        db, [{"prompt": text, "chosen": "right", "rejected": "wrong"} for text in asked], "test"
    )
    before = sides()
    further = [
        {"prompt": text + " more", "chosen": "as it should be", "rejected": "not so"} for text in asked
    ]
    pairs.import_rows(db, further, "test")
    after = sides()
    assert all(after[text] == after[text + " more"] for text in asked)
    moved = {(before[text], after[text]) for text in asked}
    assert moved == {("train", "train"), ("heldout", "heldout"), ("heldout", "train")}


def test_everybody_behind_a_row_counts(db: Store, tmp_path: Path) -> None:
    for n in range(10):
        vote(db, f"asked by {n}", {"ada": "good", "bob": "good"})
    for n in range(10):
        vote(db, f"asked again {n}", {"bob": "good"})
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    assert (made.train_rows, made.report["raters"]) == (20, 2)
    without = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, exclude_raters=["ada"])
    assert (without.train_rows, without.report["raters"]) == (20, 1)
    limited = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, max_per_rater=3)
    assert limited.train_rows == 3
    assert limited.report["dropped"] == {"above max_per_rater": 17}


def test_replay_and_caps(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(100), "test")
    snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    pairs.import_rows(db, rows(10, "fresh"), "test")
    fresh = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, replay=0.0)
    assert fresh.train_rows == 10
    assert snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, replay=0.0) == fresh
    some = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, replay=0.3)
    assert 20 < some.train_rows < 60
    capped = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, max_per_prompt=1)
    assert capped.train_rows == 55
    for n in range(5):
        vote(db, f"asked {n}", {"ada": "good"})
    limited = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, max_per_rater=2, mix={"import": 1})
    assert limited.train_rows == 112


def test_snapshot_leaves_out_rows_that_arrive_while_it_is_taken(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(10), "test")

    def late(phase: str) -> None:
        if phase == "writing":
            pairs.import_rows(db, rows(5, "late"), "test")

    made = snapshots.build(db, tmp_path, "assistant", "dpo", on_phase=late)
    assert made.train_rows + made.heldout_rows == 10
    assert new_rows.count_new(db, "dpo", "assistant") == 5


def test_no_phase_of_a_snapshot_stops_a_vote(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(10), "test")
    cast: list[str] = []

    def meanwhile(phase: str) -> None:
        voter = threading.Thread(target=lambda: (vote(db, phase, {"ada": "good"}), cast.append(phase)))
        voter.start()
        voter.join(30)

    snapshots.build(db, tmp_path, "assistant", "dpo", on_phase=meanwhile)
    assert cast == ["looking for near duplicates", "selecting", "writing", "recording"]


def test_a_directory_without_its_last_file_is_written_again(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, rows(10), "test")
    made = snapshots.build(db, tmp_path, "assistant", "dpo")
    (Path(made.directory) / "snapshot.json").unlink()
    (Path(made.directory) / "train.parquet").write_bytes(b"half")
    again = snapshots.build(db, tmp_path, "assistant", "dpo")
    assert again == made
    assert len(read(again, "train")) == made.train_rows


def test_likes_teach_sft(db: Store, tmp_path: Path) -> None:
    conversations.record_turns(
        db, [Turn("c1", "conv", (Message("user", "Hi"),), "Hello.", deployment="assistant")]
    )
    conversations.like(db, "c1", True, "ada")
    assert snapshots.build(db, tmp_path, "assistant", "sft").train_rows == 1
    with pytest.raises(Invalid):
        snapshots.build(db, tmp_path, "assistant", "sft", exclude_raters=["ada"])


def test_likes_become_a_kto_snapshot(db: Store, tmp_path: Path) -> None:
    judged = [{"prompt": f"Q {n}", "completion": f"answer {n}", "label": n % 3 > 0} for n in range(12)]
    likes.import_rows(db, [*judged, {**judged[0], "label": True}], "test")
    asked = (Message("user", "Q 1"),)
    for who, liked in (("ada", True), ("bob", False)):
        conversations.record_turns(
            db, [Turn(f"c-{who}", f"with {who}", asked, "answer 1", "assistant", user=who)]
        )
        conversations.like(db, f"c-{who}", liked, who)
    made = snapshots.build(db, tmp_path / "s", "assistant", "kto", 0.2, mix={"import": 1})
    train, heldout = read(made, "train"), read(made, "heldout")
    assert list(train[0])[:5] == ["like_id", "prompt", "completion", "label", "weight"]
    found = {row["prompt"][0]["content"]: row for row in train + heldout}
    assert not prompts(train) & prompts(heldout)
    # answer 0 was judged both ways, once each; answer 1 was liked twice (an import and ada) and disliked by bob
    assert "Q 0" not in found
    assert found["Q 1"]["weight"] == pytest.approx(1 / 5)
    assert found["Q 1"]["label"] is True
    assert {row["label"] for row in found.values()} == {True, False}
    assert made.report["dropped"]["raters were divided"] == 2
    assert made.report["liked"] == pytest.approx(8 / 11)
    assert snapshots.build(db, tmp_path / "s", "assistant", "kto", 0.2, mix={"import": 1}) == made


def test_a_file_that_cannot_be_written_is_an_error_and_reading_stops(tmp_path: Path) -> None:
    asked: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(100):
            asked.append(number)
            yield pa.record_batch({"text": ["x" * 1000] * 100, "split": ["train"] * 100})

    schema = pa.schema({"text": pa.string(), "split": pa.string()})
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    with pytest.raises(FileNotFoundError):
        parquet_writer.write({"train": tmp_path / "no-such-folder" / "train.parquet"}, reader)
    assert len(asked) < 100


def test_rows_are_parted_into_files_in_their_order(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {n}", "parts": [{"content": "x" * (n % 7)}], "split": "b" if n % 10 == 3 else "a"}
        for n in range(50_000)
    ]
    paths = {key: tmp_path / f"{key}.parquet" for key in "abc"}
    parquet_writer.write(paths, pa.Table.from_pylist(rows).to_reader(parquet_writer.BATCH))
    for key, path in paths.items():
        expected = [{"text": row["text"], "parts": row["parts"]} for row in rows if row["split"] == key]
        assert pq.read_table(path).to_pylist() == expected
        assert pq.read_schema(path).names == ["text", "parts"]
    assert pq.ParquetFile(paths["a"]).num_row_groups == 3
