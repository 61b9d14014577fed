"""Made rows in snapshots: never held out, never of held-out prompts, outvoted by people, and bounded in weight."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from store.accounts import sharing
from store.datasets import made_members, snapshots
from store.datasets.snapshot_settings import SnapshotSettings
from store.datasets.snapshots import Snapshot
from store.db.database import Store
from store.db.rows import fetch_all, scalar
from store.errors import Invalid
from store.feedback import comparisons, prompt_owners
from store.feedback.comparisons import Candidate
from store.jobs import job_parts, jobs
from store.jobs.job_parts import Part
from store.maintenance import verify
from store.privacy import erasure
from store.rollout import deployments, lineage
from store.training_data import made_rows, pairs
from store.training_data.made_rows import MADE_KINDS, Made, MadeRow
from store.values import Demonstration, Message, PreferencePair
from tests.store.trained_releases import trained

PROMPTS = [f"What is the number {n} like?" for n in range(60)]


def prompt_of(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def made(db: Store, texts: list[str], kind: Any = "rules", owners: tuple[str, ...] = (), **more: Any) -> Made:
    """Have a job decide that the short answer to each prompt is better."""
    job = jobs.create(db, "pairs.make", {"n": len(texts), "kind": kind, **more})
    job_parts.keep(db, job.id, [Part(f"prompt:{n}", text, owners=owners) for n, text in enumerate(texts)])
    rows = []
    for n, text in enumerate(texts):
        chosen, rejected = more.get("answers", ("Short.", f"A long answer to {text}"))
        value = PreferencePair(
            prompt_of(text), (Message("assistant", chosen),), (Message("assistant", rejected),)
        )
        rows.append(MadeRow(f"prompt:{n}", value, "rel-1", "rel-1", ("stop", "stop"), {"n": 4}))
    return made_rows.record(db, job.id, "assistant", kind, "abc", rows)


def vote(db: Store, text: str, better: str, worse: str, choice: str | None = None) -> None:
    asked = comparisons.create(db, text, [Candidate(better), Candidate(worse)], "assistant")
    comparisons.vote(db, asked.id, choice or ("a" if asked.a.content == better else "b"), "ada")


@pytest.fixture
def db(db: Store) -> Store:
    deployments.ensure(db, "assistant", "smol")
    return db


def build(db: Store, tmp_path: Path, **settings: Any) -> Snapshot:
    return snapshots.build(db, tmp_path / "snapshots", "assistant", "dpo", **settings)


def rows_of(snapshot: Snapshot, split: str) -> list[dict[str, Any]]:
    return list(pq.read_table(Path(snapshot.directory) / f"{split}.parquet").to_pylist())


def prompts_of(snapshot: Snapshot, split: str) -> set[str]:
    return {row["prompt"][0]["content"] for row in rows_of(snapshot, split)}


@pytest.mark.parametrize("seed", range(6))
def test_made_rows_are_never_held_out_nor_of_a_prompt_that_is(db: Store, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    texts = [
        draw.choice([f"Tell me of {n}, please.", f"{n} {'again ' * n}"]) for n in draw.sample(range(99), 40)
    ]
    made(db, draw.sample(texts, draw.randrange(1, 40)), draw.choice(MADE_KINDS[:3]))
    for text in draw.sample(texts, draw.randrange(12)):
        vote(db, text, "By vote.", "By nobody.")
    fraction = draw.choice([0.1, 0.3, 0.5])
    settings = {"seed": seed, "heldout_fraction": fraction, "heldout_clusters": draw.choice([0, 10, 40])}
    try:
        snapshot = build(db, tmp_path, **settings)
    except Invalid:
        return  # all prompts of this draw are kept for held-out data
    by_machine = {row["id"] for row in fetch_all(db.read(), "select id from pairs where source <> 'vote'")}
    assert not by_machine & {row["pair_id"] for row in rows_of(snapshot, "heldout")}
    assert not prompts_of(snapshot, "heldout") & prompts_of(snapshot, "train")
    of_settings = SnapshotSettings(seed=seed, heldout_fraction=fraction)
    for row in rows_of(snapshot, "train"):
        if row["pair_id"] in by_machine:
            assert not made_members.is_reserved(prompt_of(row["prompt"][0]["content"]), of_settings)


def test_a_prompt_that_made_rows_taught_is_not_held_out_later(db: Store, tmp_path: Path) -> None:
    made(db, PROMPTS)
    taught = prompts_of(build(db, tmp_path), "train")
    for text in PROMPTS:
        vote(db, text, "By vote.", "By nobody.")
    later = build(db, tmp_path)
    assert later.heldout_rows
    assert not taught & prompts_of(later, "heldout")
    assert len(prompts_of(later, "heldout")) > 10


def test_made_rows_do_not_change_which_votes_are_held_out(db: Store, tmp_path: Path) -> None:
    for text in PROMPTS[:30]:
        vote(db, text, "By vote.", "By nobody.")
    before = prompts_of(build(db, tmp_path), "heldout")
    made(db, PROMPTS)
    assert prompts_of(build(db, tmp_path), "heldout") == before


def test_the_chance_of_a_prompt_is_that_of_the_split(db: Store, tmp_path: Path) -> None:
    for text in PROMPTS:
        vote(db, text, "By vote.", "By nobody.")
    held = prompts_of(build(db, tmp_path, heldout_fraction=0.2, heldout_clusters=0, seed=3), "heldout")
    assert held == {text for text in PROMPTS if made_members.chance_of(prompt_of(text), 3) < 0.2}


def test_the_turns_of_a_conversation_have_the_chance_of_its_first_message() -> None:
    longer = (*prompt_of("Hi"), Message("assistant", "Hello."), Message("user", "And now?"))
    assert made_members.chance_of(longer, 1) == made_members.chance_of(prompt_of("Hi"), 1)


def test_votes_decide_where_a_rule_says_otherwise(db: Store, tmp_path: Path) -> None:
    text = next(text for text in PROMPTS if not made_members.is_reserved(prompt_of(text), SnapshotSettings()))
    made(db, [text, *PROMPTS[30:]], answers=("Short.", "Long indeed."))
    for _ in range(2):
        vote(db, text, "Long indeed.", "Short.")
    snapshot = build(db, tmp_path, heldout_fraction=0.0)
    chosen = {row["prompt"][0]["content"]: row["chosen"][0]["content"] for row in rows_of(snapshot, "train")}
    assert chosen[text] == "Long indeed."
    assert snapshot.report["dropped"][made_members.DECIDED] == 1


def test_a_tie_of_people_leaves_out_what_a_rule_decided(db: Store, tmp_path: Path) -> None:
    made(db, PROMPTS, answers=("Short.", "Long indeed."))
    vote(db, PROMPTS[0], "Long indeed.", "Short.", "tie")
    assert PROMPTS[0] not in prompts_of(build(db, tmp_path, heldout_fraction=0.0), "train")


def test_each_kind_weighs_at_most_its_share_of_what_people_decided(db: Store, tmp_path: Path) -> None:
    made(db, PROMPTS[:40], "rules")
    made(db, PROMPTS[40:], "judge")
    vote(db, "A question of its own?", "By vote.", "By nobody.")
    vote(db, "Another question, quite apart?", "By vote.", "By nobody.")
    shares = build(db, tmp_path, heldout_fraction=0.0).report["weight_shares"]
    assert shares["rules"] == pytest.approx(0.25 * shares["people"], rel=1e-3)
    assert shares["judge"] == pytest.approx(0.25 * shares["people"], rel=1e-3)
    wanted = {"rules": 1.0, "judge": 0.0}
    snapshot = build(db, tmp_path, heldout_fraction=0.0, mix=wanted)
    assert snapshot.report["weight_shares"] == {"people": 0.5, "rules": 0.5}
    assert snapshot.train_rows == 42


def test_made_rows_alone_can_be_trained_on(db: Store, tmp_path: Path) -> None:
    found = made(db, PROMPTS)
    assert found == Made(60, 0)
    snapshot = build(db, tmp_path)
    assert snapshot.heldout_rows == 0
    assert 30 <= snapshot.train_rows <= 50
    assert snapshot.report["weight_shares"] == {"rules": 1.0}
    assert snapshot.report["dropped"] == {made_members.RESERVED: 60 - snapshot.train_rows}


def test_recording_again_adds_nothing(db: Store) -> None:
    made(db, PROMPTS[:3])
    assert made(db, PROMPTS[:5], again=True) == Made(2, 3)
    assert verify.verify(db) == []


def test_a_vote_for_a_made_pair_makes_it_a_persons(db: Store, tmp_path: Path) -> None:
    made(db, PROMPTS[:1], answers=("Short.", "Long indeed."))
    vote(db, PROMPTS[0], "Short.", "Long indeed.")
    assert pairs.count(db) == 1
    snapshot = build(db, tmp_path, heldout_fraction=0.0)
    assert snapshot.report["weight_shares"] == {"people": 1.0}
    assert rows_of(snapshot, "train")[0]["weight"] == pytest.approx(1 / 3)


def test_lineage_says_how_much_was_learned_from_people_and_rules(db: Store, tmp_path: Path) -> None:
    made(db, PROMPTS[:40], owners=("user zoe",))
    vote(db, "A question of its own?", "By vote.", "By nobody.")
    pairs.import_rows(db, [{"prompt": "Imported?", "chosen": "yes", "rejected": "no"}], "file.jsonl")
    release, _ = trained(db, tmp_path, "a-1")
    decided = lineage.of_release(db, release)["decided_by"]
    assert {row["kind"]: row["rows"] for row in decided} == {"people": 1, "import": 1, "rules": 40}
    assert sum(row["share"] for row in decided) == pytest.approx(1.0)
    assert decided[-1]["kind"] == "rules"
    assert decided[-1]["share"] == pytest.approx(0.2)
    erasure.erase_person(db, "zoe")
    decided = lineage.of_release(db, release)["decided_by"]
    assert {row["kind"]: row["rows"] for row in decided} == {"people": 1, "import": 1, "erased": 40}


def test_erasing_whose_prompt_it_was_removes_the_row(db: Store) -> None:
    made(db, PROMPTS[:2], owners=("user zoe", "user bob"))
    made(db, PROMPTS[2:3], owners=("user bob",))
    erasure.erase_person(db, "zoe")
    assert [row.pair.prompt[0].content for row in pairs.list_page(db)] == [PROMPTS[2]]
    assert scalar(db.read(), "select count(*) from made_rows") == 1
    assert verify.verify(db) == []


def test_words_that_are_not_shared_for_training_are_left_out(db: Store, tmp_path: Path) -> None:
    made(db, PROMPTS[:30], owners=("user zoe",))
    made(db, PROMPTS[30:], owners=("user bob",))
    sharing.choose(db, "user zoe", "show")
    snapshot = build(db, tmp_path, heldout_fraction=0.0)
    assert prompts_of(snapshot, "train") == set(PROMPTS[30:])
    newest = pairs.list_page(db, 1)[0]
    assert prompt_owners.of_row(db, newest.id) == ["user bob"]


def test_a_row_whose_prompt_was_erased_meanwhile_is_not_recorded(db: Store) -> None:
    job = jobs.create(db, "pairs.make", {})
    value = PreferencePair(
        prompt_of("Where?"), (Message("assistant", "Here."),), (Message("assistant", "There."),)
    )
    row = MadeRow("prompt:0", value, "rel-1", "rel-1", ("stop", "stop"))
    assert made_rows.record(db, job.id, "assistant", "rules", "abc", [row]) == Made(0, 0)


def test_a_new_distillation_takes_the_place_of_the_earlier(db: Store) -> None:
    for run, answer in enumerate(("Arr.", "Verily.")):
        job = jobs.create(db, "distill", {"run": run})
        job_parts.keep(db, job.id, [Part("prompt:0", "Hi")])
        value = Demonstration(prompt_of("Hi"), (Message("assistant", answer),))
        made_rows.record(
            db, job.id, "assistant", "distilled", "abc", [MadeRow("prompt:0", value, "r", "", ("stop",))]
        )
        made_rows.withdraw_distilled(db, "assistant", job.id)
    rows = fetch_all(db.read(), "select completion[1].content as text, release from demonstrations")
    assert rows == [{"text": "Verily.", "release": ""}]
    assert verify.verify(db) == []
