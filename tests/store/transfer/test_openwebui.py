"""Exports of Open WebUI: which answers make pairs and likes, reasoning and tool calls as HTML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store.db.database import Store
from store.training_data import likes, pairs
from store.training_data.import_file import import_file
from store.training_data.import_result import ImportResult
from tests.store.transfer.column_rows import ASSISTANT, USER, Row


def answer(text: object, **more: Any) -> Row:
    return {"parentId": "q", "role": ASSISTANT, "content": text, **more}


def feedback(rated: str, rating: int, answers: dict[str, Row], **data: Any) -> Row:
    history = {"q": {"parentId": None, "role": USER, "content": "Q"}, **answers}
    return {
        "type": "rating",
        "data": {"rating": rating, **data},
        "meta": {"message_id": rated, "chat_id": "c"},
        "snapshot": {"chat": {"chat": {"history": {"messages": history}}}},
    }


def imported(
    db: Store, path: Path, rows: list[Row], noun: str = "pairs"
) -> tuple[ImportResult, set[tuple[str, str]]]:
    path.write_text(json.dumps(rows))
    done = import_file(db, path, noun)
    found = [record.pair for record in pairs.list_page(db)]
    return done.result, {(pair.chosen[-1].content, pair.rejected[-1].content) for pair in found}


def test_a_failed_sibling_refuses_no_pair_and_every_other_counts(db: Store, tmp_path: Path) -> None:
    answers = {
        "a": answer("", error={"content": "model not found"}), "b": answer(None), "c": answer("good"),
        "d": answer("bad"), "e": answer("worse"), "f": answer("good"),
    }  # fmt: skip
    done, found = imported(db, tmp_path / "rows", [feedback("c", 1, answers)])
    assert (found, done.accepted, done.rejected) == ({("good", "bad"), ("good", "worse")}, 2, ())
    done, _ = imported(db, tmp_path / "rows", [feedback("b", 1, answers)])
    assert "did not fail" in done.rejected[0].why


@pytest.mark.parametrize("rating", [1, -1])
def test_two_answers_rated_alike_make_no_pair(db: Store, tmp_path: Path, rating: int) -> None:
    answers = {"a": answer("A"), "b": answer("B"), "c": answer("C")}
    rows = [feedback("a", rating, answers), feedback("b", rating, answers)]
    done, found = imported(db, tmp_path / "rows", rows)
    assert found == ({("A", "C"), ("B", "C")} if rating == 1 else {("C", "A"), ("C", "B")})
    noted = {"a": answer("X"), "b": answer("Y", annotation={"rating": rating})}
    done, _ = imported(db, tmp_path / "rows", [feedback("a", rating, noted)])
    assert "liked too" in done.rejected[0].why


def test_score_reason_and_comment_become_tags(db: Store, tmp_path: Path) -> None:
    answers = {"a": answer("A"), "b": answer("B")}
    more = {
        "tags": ["kind"],
        "reason": "accurate_information",
        "comment": " Nice. ",
        "details": {"rating": 9},
    }
    imported(db, tmp_path / "rows", [feedback("a", 1, answers, **more)])
    (made,) = pairs.list_page(db)
    assert made.pair.tags == ("comment: Nice.", "kind", "reason: accurate_information", "score: 9")
    done, _ = imported(db, tmp_path / "rows", [feedback("a", 1, answers, **more)], "likes")
    assert {"data.score", "data.reason", "data.comment"} <= set(done.unused_columns)


@pytest.mark.parametrize(
    "reasoning",
    [
        '<details type="reasoning" done="true" duration="3">\n<summary>Thought</summary>\n&gt; Hm &amp; so.\n</details>\n',
        "<think>\nHm & so.\n</think>\n\n",
    ],
)
@pytest.mark.parametrize("noun", ["pairs", "likes"])
def test_reasoning_is_kept_apart_from_the_answer(
    db: Store, tmp_path: Path, reasoning: str, noun: str
) -> None:
    answers = {"a": answer(f"{reasoning}Good."), "b": answer(f"{reasoning}Bad.")}
    (tmp_path / "rows").write_text(json.dumps(feedback("a", 1, answers)))
    done = import_file(db, tmp_path / "rows", noun)
    assert (done.result.rejected, done.result.rules["reasoning_apart"]) == ((), 1)
    made = (
        likes.list_recent(db)[0]["completion"]
        if noun == "likes"
        else pairs.list_page(db)[0].pair.to_json()["chosen"]
    )
    assert made == [{"role": ASSISTANT, "content": "Good.", "reasoning_content": "Hm & so."}]


def test_tool_calls_as_html_are_refused(db: Store, tmp_path: Path) -> None:
    answers = {"a": answer('<details type="tool_calls" name="x">\n</details>\nGood.'), "b": answer("Bad.")}
    done, _ = imported(db, tmp_path / "rows", [feedback("a", 1, answers)])
    assert "tool calls" in done.rejected[0].why
