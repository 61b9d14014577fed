"""The split: by conversation, with enough held out to measure on, and votes not drowned by imports."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from store.datasets import snapshots
from store.db.database import Store
from store.errors import Invalid
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.training_data import demonstrations, pairs


def text(seed: object, words: int = 12) -> str:
    chance = random.Random(str(seed))
    return " ".join("".join(chance.choices(string.ascii_lowercase, k=6)) for _ in range(words))


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if n % 2 else "user", "content": content} for n, content in enumerate(texts)]


def build(db: Store, tmp_path: Path, method: str = "dpo", **settings: Any) -> dict[str, list[dict[str, Any]]]:
    made = snapshots.build(db, tmp_path, "assistant", method, **settings)
    return {
        split: pq.read_table(Path(made.directory) / f"{split}.parquet").to_pylist()
        for split in ("train", "heldout")
    }


def clusters(rows: list[dict[str, Any]]) -> set[str]:
    return {row["cluster"] for row in rows}


def vote(db: Store, prompt: str) -> None:
    made = comparisons.create(db, prompt, [Candidate("a wren"), Candidate("an owl")], "assistant")
    comparisons.vote(db, made.id, "a", "ada")


@pytest.mark.parametrize("near_duplicates", [0.8, None])
def test_turns_of_one_conversation_are_on_one_side(
    db: Store, tmp_path: Path, near_duplicates: float | None
) -> None:
    rows = []
    for n in range(100):
        first, answer = text(f"q{n}"), text(f"a{n}")
        later = said(first, answer, text(f"then {n}"))
        system = [{"role": "system", "content": "Be brief."}, *later]
        rows += [
            {"messages": prompt, "chosen": text(prompt), "rejected": text(f"bad {prompt}")}
            for prompt in (said(first), later, system)
        ]
    pairs.import_rows(db, rows, "test")
    made = build(db, tmp_path, near_duplicates=near_duplicates)
    assert len(made["train"]) + len(made["heldout"]) == 300
    assert not clusters(made["train"]) & clusters(made["heldout"])
    assert len(clusters(made["train"])) + len(clusters(made["heldout"])) == 100
    first_messages = [
        {next(m["content"] for m in row["prompt"] if m["role"] == "user") for row in made[split]}
        for split in ("train", "heldout")
    ]
    assert not first_messages[0] & first_messages[1]
    assert 20 <= len(clusters(made["heldout"])) <= 45


def test_conversations_that_begin_alike_are_one_cluster(db: Store, tmp_path: Path) -> None:
    rows = []
    for n in range(60):
        first = text(f"q{n}", 30)
        rows += [
            {
                "messages": said(begin, text(f"{n}{begin[-3:]}", 40), text(begin, 40)),
                "completion": f"done {n}",
            }
            for begin in (first, first + " please")
        ]
    demonstrations.import_rows(db, rows, "test")
    made = build(db, tmp_path, "sft")
    assert len(clusters(made["train"])) + len(clusters(made["heldout"])) == 60
    assert not clusters(made["train"]) & clusters(made["heldout"])


def test_a_further_turn_does_not_change_a_conversations_side(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, [{"prompt": text(n), "chosen": "x", "rejected": "y"} for n in range(200)], "test")
    before = {row["prompt"][0]["content"] for row in build(db, tmp_path)["heldout"]}
    further = [
        {"messages": said(text(n), "x", text(f"more {n}")), "chosen": "x", "rejected": "y"}
        for n in range(200)
    ]
    pairs.import_rows(db, further, "test")
    assert {row["prompt"][0]["content"] for row in build(db, tmp_path)["heldout"]} == before


@pytest.mark.parametrize(("count", "least", "most"), [(60, 12, 28), (120, 28, 52), (1000, 75, 125)])
def test_enough_is_held_out_to_measure_on(
    db: Store, tmp_path: Path, count: int, least: int, most: int
) -> None:
    pairs.import_rows(db, [{"prompt": text(n), "chosen": "x", "rejected": "y"} for n in range(count)], "test")
    assert least <= len(build(db, tmp_path)["heldout"]) <= most
    plain = build(db, tmp_path, heldout_clusters=0)["heldout"]
    assert len(plain) <= count * 0.17
    assert not build(db, tmp_path, heldout_fraction=0.0)["heldout"]


def test_what_was_trained_on_is_not_held_out_as_rows_of_any_source_arrive(db: Store, tmp_path: Path) -> None:
    trained: set[str] = set()
    for step in range(4):
        for n in range(20):
            vote(db, text(f"vote {step} {n}"))
            vote(db, text(f"import {step - 1} {n}"))
        pairs.import_rows(
            db,
            [
                {"prompt": text(f"{kind} {step} {n}"), "chosen": "x", "rejected": f"y {step}"}
                for kind in ("import", "vote")
                for n in range(60)
            ],
            "test",
        )
        made = build(db, tmp_path, mix={"import": 1})
        held = {row["prompt"][0]["content"] for row in made["heldout"]}
        assert not held & trained
        trained |= {row["prompt"][0]["content"] for row in made["train"]}


def test_imports_do_not_drown_votes(db: Store, tmp_path: Path) -> None:
    for n in range(60):
        vote(db, text(f"vote {n}"))
    pairs.import_rows(db, [{"prompt": text(n), "chosen": "x", "rejected": "y"} for n in range(1000)], "test")
    for mix, most in ((None, 0.25), ({"import": 0.5}, 0.55), ({"import": 0}, 0)):
        made = build(db, tmp_path, **({} if mix is None else {"mix": mix}))
        votes = {
            split: [row for row in rows if row["chosen"][0]["content"] in ("a wren", "an owl")]
            for split, rows in made.items()
        }
        assert sum(map(len, votes.values())) == 60
        assert 10 <= len(votes["heldout"]) <= 30
        for split, rows in made.items():
            assert len(rows) - len(votes[split]) <= most * len(votes[split]) + 1
    all_rows = build(db, tmp_path, mix={"import": 1})
    assert sum(map(len, all_rows.values())) == 1060


def test_imports_alone_are_all_used(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, [{"prompt": text(n), "chosen": "x", "rejected": "y"} for n in range(50)], "test")
    assert sum(map(len, build(db, tmp_path).values())) == 50


@pytest.mark.parametrize(
    "mix",
    [
        {"poem": 1},
        {"vote": -1},
        {"import": "x"},
        3,
        dict.fromkeys(("vote", "rewrite", "like", "import"), 0),
        {"rules": 1.5},
    ],
)
def test_a_bad_mix_is_named(db: Store, tmp_path: Path, mix: Any) -> None:
    with pytest.raises(Invalid) as caught:
        snapshots.build(db, tmp_path, "assistant", "dpo", mix=mix)
    assert caught.value.field == "mix"
