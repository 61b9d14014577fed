"""Near duplicates: found, kept on one side of the split, and dropped as rows."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from store.datasets import snapshots
from store.db.database import Store
from store.db.rows import scalar
from store.near_duplicates import fingerprint
from store.near_duplicates import index as near
from store.training_data import demonstrations, pairs

WORDS = [
    "the",
    "ship",
    "turned",
    "slowly",
    "into",
    "her",
    "wind",
    "while",
    "all",
    "crew",
    "made",
    "fast",
    "lines",
]


def sentence(change: int | None = None, tail: str = "") -> str:
    words = list(WORDS) * 3
    if change is not None:
        words[change] = "gull"
    return " ".join(words) + tail


def likeness(one: str, other: str) -> float:
    return fingerprint.jaccard(*fingerprint.features(pa.array([one, other])))


def test_case_punctuation_and_space_do_not_count() -> None:
    one, other = fingerprint.bands(pa.array(["Hello,  WORLD! “Ça va?”", "hello world ça—va"])).tolist()
    assert one == other
    # Words a b c of 5, pairs ab bc of 4: 5 shared of 9.
    assert likeness("a b c d", "a b c e") == pytest.approx(5 / 9)


def test_text_without_spaces_is_taken_by_characters() -> None:
    assert 0.4 < likeness("今天天气很好我们去海边散步吧", "今天天气很好我们去海边游泳吧") < 0.9


def test_text_without_words_is_one_word() -> None:
    assert likeness("?!", "?!") == 1.0
    assert likeness("?!", "...") == 0.0


def test_the_sides_of_a_row_are_not_interchangeable() -> None:
    one, other = fingerprint.sketches(pa.array(["yes indeed", "no never", "no never", "yes indeed"]), 2)
    assert list(one) != list(other)


def plain_likeness(one: str, other: str) -> float:
    """What `fingerprint` does over bytes, said with sets of words."""
    sets = []
    for text in (one, other):
        words = re.findall(r"\w+", text.lower())
        sets.append({*words, *pairwise(words)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


said = st.lists(st.sampled_from(["Ab", "c_d", "éa", "x", "y2", "over_eight", " ", ", ", "… "]), max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(said.map(" ".join).filter(lambda t: re.search(r"\w", t)), min_size=2, max_size=6))
def test_bytes_give_the_likeness_that_words_give(texts: list[str]) -> None:
    found = fingerprint.features(pa.array(texts))
    for text, features in zip(texts, found, strict=True):
        assert fingerprint.jaccard(found[0], features) == pytest.approx(plain_likeness(texts[0], text))


def test_near_duplicate_prompts_are_split_as_one(db: Store, tmp_path: Path) -> None:
    rows = [
        {"prompt": sentence(tail=f" {'!' * n}"), "chosen": f"good {n}", "rejected": f"bad {n}"}
        for n in range(6)
    ]
    rows += [
        {"prompt": f"something else {n} entirely {n * 7}", "chosen": "x", "rejected": "y"} for n in range(30)
    ]
    pairs.import_rows(db, rows, "test")
    for seed in range(8):
        made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.5, seed)
        sides = {
            split
            for split in ("train", "heldout")
            for row in pq.read_table(Path(made.directory) / f"{split}.parquet").to_pylist()
            if row["prompt"][0]["content"].startswith("the ship")
        }
        assert len(sides) == 1


def test_near_duplicate_rows_are_one_row(db: Store, tmp_path: Path) -> None:
    rows = [{"prompt": "Sail?", "chosen": sentence(n), "rejected": "no"} for n in (None, 20)]
    rows += [
        {"prompt": "Sail?", "chosen": "no", "rejected": sentence(tail=" indeed")},
        {"prompt": "Row?", "chosen": sentence(), "rejected": "no"},
    ]
    pairs.import_rows(db, rows, "test")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    assert made.train_rows == 3
    assert made.report["dropped"] == {"near duplicate of another row": 1}
    assert snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, near_duplicates=None).train_rows == 4


def test_refresh_is_incremental_and_may_be_repeated(db: Store) -> None:
    demonstrations.import_rows(db, [{"prompt": sentence(), "completion": "x"}], "test")
    demonstrations.import_rows(db, [{"prompt": sentence(tail="?"), "completion": "x"}], "test")
    near.refresh(db, "demonstrations")
    tables = {"prompt_prints": 2, "row_sketches": 2, "near_prompts": 1, "near_rows": 1}
    for lost in ("select 1", "delete from near_rows", "delete from near_prompts", "delete from row_sketches"):
        with db.atomic() as cursor:  # killed before it was through
            cursor.execute("delete from near_progress where noun = 'demonstrations'")
            cursor.execute(lost)
        near.refresh(db, "demonstrations")
        assert {table: scalar(db.read(), f"select count(*) from {table}") for table in tables} == tables
    with db.atomic() as cursor:
        cursor.execute("delete from demonstrations")
        near.erase(cursor)
    for table in ("prompt_prints", "row_sketches", "near_prompts", "near_rows"):
        assert scalar(db.read(), f"select count(*) from {table}") == 0


texts = st.lists(st.sampled_from(["tide", "wind", "sail", "rope", "?", "Wind"]), min_size=1, max_size=6).map(
    " ".join
)


def as_words(prompt: str) -> str:
    """A prompt, as JSON, without case and punctuation; one of nothing but punctuation is what it is."""
    text = " ".join(message["content"] for message in json.loads(prompt))
    return " ".join(re.findall(r"\w+", text.lower())) or text


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    data=[("tide", "tide", "tide"), ("?", "tide", "tide"), ("? ?", "tide", "tide")], fraction=0.1, seed=0
)
@given(
    data=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=30),
    fraction=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    seed=st.integers(0, 1000),
)
def test_no_prompt_is_ever_on_both_sides(
    empty: Path, tmp_path_factory: Any, data: Any, fraction: float, seed: int
) -> None:
    home = tmp_path_factory.mktemp("split")
    with Store.open(shutil.copy(empty, home / "t.duckdb")) as db:
        pairs.import_rows(db, [{"prompt": p, "chosen": c, "rejected": r + " no"} for p, c, r in data], "test")
        if not pairs.count(db):
            return
        try:
            made = snapshots.build(db, home / "s", "assistant", "dpo", fraction, seed)
        except snapshots.Invalid:
            return
        sides = [
            {
                json.dumps(r["prompt"])
                for r in pq.read_table(Path(made.directory) / f"{s}.parquet").to_pylist()
            }
            for s in ("train", "heldout")
        ]
        assert not sides[0] & sides[1]
        normal = [{as_words(prompt) for prompt in side} for side in sides]
        assert not normal[0] & normal[1]
        assert sides[0]
