"""Rows as people bring them: every column that says something is used, or the row is refused; messages are messages."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.db.database import Store
from store.errors import Invalid
from store.maintenance import verify
from store.training_data import demonstrations, likes, pairs
from store.training_data.import_file import import_file
from store.training_data.import_result import ImportResult
from store.transfer import export_file
from tests.store.transfer.column_rows import ASSISTANT, USER, Row

NUMPY = (
    "[{'content': 'a', 'role': 'user'}\n {'content': 'b}\\n{', 'role': 'assistant'}\n"
    " {'content': 'Q', 'role': 'user'}]"
)
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}


def chat(*texts: str) -> list[Row]:
    return [{"role": (USER, ASSISTANT)[n % 2], "content": text} for n, text in enumerate(texts)]


def take(db: Store, rows: list[Row]) -> tuple[ImportResult, list[Row]]:
    done = pairs.import_rows(db, rows, "test")
    return done, [record.pair.to_json() for record in reversed(pairs.list_page(db))]


def one(db: Store, row: Row) -> Row:
    done, found = take(db, [row])
    assert done.rejected == ()
    (made,) = found
    return made


def said(messages: list[Row]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        ({"question": "Q"}, [(USER, "Q")]),
        ({"query": "Q"}, [(USER, "Q")]),
        ({"input": "Q"}, [(USER, "Q")]),
        ({"context": "Q"}, [(USER, "Q")]),
        ({"instruction": "Q", "input": "more"}, [(USER, "Q\n\nmore")]),
        ({"system": "S", "question": "Q"}, [("system", "S"), (USER, "Q")]),
        ({"system_prompt": "S", "prompt": "Q"}, [("system", "S"), (USER, "Q")]),
        ({"system": "", "prompt": "Q"}, [(USER, "Q")]),
        ({"prompt": "Q", "history": [["a", "b"]]}, [(USER, "a"), (ASSISTANT, "b"), (USER, "Q")]),
        ({"prompt": "Q", "history": "[['a', 'b']]"}, [(USER, "a"), (ASSISTANT, "b"), (USER, "Q")]),
        ({"prompt": "Q", "question": "Q"}, [(USER, "Q")]),
        ({" Prompt ": "Q"}, [(USER, "Q")]),
        ({"System Prompt": "S", "PROMPT": "Q"}, [("system", "S"), (USER, "Q")]),
        ({"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: Q\n\nAssistant:"}, [(USER, "a"), (ASSISTANT, "b"), (USER, "Q")]),
        ({"prompt": "a\n<extra_id_1>Assistant\nb\n<extra_id_1>User\nQ"}, [(USER, "a"), (ASSISTANT, "b"), (USER, "Q")]),
        ({"prompt": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"},
         [("system", "S"), (USER, "Q")]),
        ({"prompt": '[{"content": "Q", "role": "user"}]'}, [(USER, "Q")]),
        ({"prompt": "[{'role': 'user', 'content': \"Q's\"}]"}, [(USER, "Q's")]),
        ({"prompt": NUMPY}, [(USER, "a"), (ASSISTANT, "b}\n{"), (USER, "Q")]),
        ({"prompt": "Q", "tools": "[]", "images": [], "history": "[]"}, [(USER, "Q")]),
        ({"conversations": '[{"from": "human", "value": "Q"}]'}, [(USER, "Q")]),
    ],
)  # fmt: skip
def test_prompt_is_found_in_any_of_its_columns(
    db: Store, columns: Row, prompt: list[tuple[str, str]]
) -> None:
    made = one(db, {**columns, "chosen": "The answer is good", "rejected": "The answer is bad"})
    assert said(made["prompt"]) == prompt
    assert said(made["chosen"]) == [(ASSISTANT, "The answer is good")]
    assert said(made["rejected"]) == [(ASSISTANT, "The answer is bad")]


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"prompt": "P", "question": "Q"}, ["`question`", "`prompt`"]),
        ({"prompt": "P", "messages": chat("Q")}, ["`prompt`", "`messages`", "not both"]),
        ({"prompt": "P", "tools": [{"nome": "weather"}]}, ["tools[0].function.name"]),
        ({"prompt": "P", "images": [{"bytes": b"x", "path": None}]}, ["images"]),
        ({"system": "S"}, ["prompt", "question", "system"]),
        ({"Frage": "Was?"}, ["Frage", "prompt"]),
        ({"system": "S", "messages": [{"role": "system", "content": "T"}, *chat("Q")]}, ["system"]),
        ({"prompt": "P", "history": "no list"}, ["history"]),
        ({"prompt": "[INST] Q [/INST]"}, ["prompt", "chat template"]),
        ({"prompt": "P", "chosen_score": 2, "rejected_score": 2}, ["chosen_score", "tie"]),
        ({"prompt": "P", "rating_chosen": 1, "rating_rejected": 5}, ["rating_chosen", "rating_rejected"]),
        ({"prompt": "P", "status": "tie"}, ["status"]),
        ({"prompt": "P", "Prompt": "Q"}, ["Prompt", "prompt"]),
        ({"prompt": "P", "question": "P2"}, ["`prompt`", "`question`"]),
        ({"prompt": "P", "functions": "weather"}, ["functions", "a list of tools"]),
        ({"prompt": "P", "tool_calls": '[{"name": "one"}]'}, ["tool_calls"]),
    ],
)
def test_a_column_that_cannot_be_used_refuses_the_row_by_name(db: Store, row: Row, names: list[str]) -> None:
    done, found = take(db, [{**row, "chosen": "The one", "rejected": "The other"}])
    assert found == []
    assert all(name in done.rejected[0].why for name in names), done.rejected[0].why


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        ({"prompt": "c"}, chat("a", "b", "c")),
        ({"prompt": "a"}, chat("a", "b", "c")),
        ({"prompt": chat("a")}, chat("a", "b", "c")),
        ({"messages": chat("a", "b", "c")}, chat("a", "b", "c")),
        ({}, chat("a", "b", "c")),
        ({"system": "S", "question": "c"}, [{"role": "system", "content": "S"}, *chat("a", "b", "c")]),
        ({"prompt": [{"role": "system", "content": "S"}, *chat("a", "b", "c")]},
         [{"role": "system", "content": "S"}, *chat("a", "b", "c")]),
    ],
)  # fmt: skip
def test_the_turns_that_both_sides_share_are_the_prompt(db: Store, columns: Row, prompt: list[Row]) -> None:
    row = {**columns, "chosen": chat("a", "b", "c", "good"), "rejected": chat("a", "b", "c", "bad")}
    made = one(db, row)
    assert made["prompt"] == prompt
    assert (said(made["chosen"]), said(made["rejected"])) == ([(ASSISTANT, "good")], [(ASSISTANT, "bad")])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": chat("a", "b", "c", "x"), "rejected": chat("a", "b", "d", "y")}, "part"),
        ({"prompt": "other", "chosen": chat("a", "x"), "rejected": chat("a", "y")}, "other"),
        ({"prompt": "a", "chosen": chat("b", "x"), "rejected": "y"}, "prompt"),
        ({"prompt": "a", "chosen": chat("a", "x", "b"), "rejected": "y"}, "ends with the assistant"),
    ],
)
def test_no_side_holds_a_question_before_its_answer(db: Store, row: Row, why: str) -> None:
    done, found = take(db, [row])
    assert found == []
    assert why in done.rejected[0].why


def test_sides_that_go_on_after_an_answer_give_their_question_to_the_prompt(db: Store) -> None:
    made = one(db, {"prompt": chat("a", "b"), "chosen": chat("c", "good"), "rejected": chat("c", "bad")})
    assert made["prompt"] == chat("a", "b", "c")


def test_sides_that_part_early_keep_later_turns(db: Store) -> None:
    row = {"chosen": chat("a", "b", "c", "d"), "rejected": chat("a", "x", "c", "y")}
    made = one(db, row)
    assert made["prompt"] == chat("a")
    assert said(made["chosen"]) == [(ASSISTANT, "b"), (USER, "c"), (ASSISTANT, "d")]


CONVERSATION_FILES = [
    [{"prompt": "Q", "completion": chat("Q", "A")}],
    [{"prompt": chat("Q"), "completion": chat("Q", "A")}],
    [{"system": "", "instruction": "Q", "output": "A"}],
    [{"question": "Q", "answer": "A"}],
    [{"conversation": [{"input": "Q", "output": "A"}]}],
    [{"conversation": [{"human": "Q", "assistant": "A"}]}],
    [{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": ""}],
    [{"messages": json.dumps(chat("Q", "A"))}],
    [{"messages": str(chat("Q", "A"))}],
]


@pytest.mark.parametrize("rows", CONVERSATION_FILES)
def test_demonstrations_in_every_shape_are_one(db: Store, tmp_path: Path, rows: list[Row]) -> None:
    (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = import_file(db, tmp_path / "rows", "demonstrations")
    assert done.result.rejected == ()
    (made,) = demonstrations.list_page(db)
    assert (made.demonstration.to_json()["prompt"], said(made.demonstration.to_json()["completion"])) == (
        chat("Q"),
        [(ASSISTANT, "A")],
    )


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Q", "input": "", "output": "A", "kto_tag": True},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "kto_tag": True},
        {"messages": chat("Q", "A"), "label": True},
        {"prompt": "Q", "completion": chat("Q", "A"), "label": True, "rating": 5},
        {"question": "Q", "response": "A", "Label": "true"},
    ],
)
def test_likes_in_every_shape_are_one(db: Store, tmp_path: Path, row: Row) -> None:
    (tmp_path / "rows").write_text(json.dumps(row))
    assert import_file(db, tmp_path / "rows", "likes").result.rejected == ()
    (made,) = likes.list_recent(db)
    assert (made["prompt"], said(made["completion"]), made["label"]) == (chat("Q"), [(ASSISTANT, "A")], True)


@pytest.mark.parametrize("noun", ["pairs", "demonstrations"])
def test_ratings_of_single_answers_are_refused_in_one_sentence(db: Store, tmp_path: Path, noun: str) -> None:
    rated = {
        "prompt": "Q",
        "response": "A",
        "helpfulness": 1,
        "correctness": 1,
        "coherence": 4,
        "complexity": 1,
    }
    (tmp_path / "rows").write_text(json.dumps(rated | {"verbosity": 1}))
    (refused,) = import_file(db, tmp_path / "rows", noun).result.rejected
    assert "response and helpfulness, correctness" in refused.why


def test_the_better_response_has_to_be_the_safer_one(db: Store, tmp_path: Path) -> None:
    row = {
        "prompt": "Q",
        "response_0": "a",
        "response_1": "b",
        "better_response_id": 0,
        "safer_response_id": 1,
    }
    (tmp_path / "rows").write_text(json.dumps(row))
    (refused,) = import_file(db, tmp_path / "rows").result.rejected
    assert "better_response_id and safer_response_id" in refused.why


def test_fine_grained_scores_decide(db: Store, tmp_path: Path) -> None:
    scored = [
        {"response": "right", "overall_score": 8.0, "fine-grained_score": 4.75},
        {"response": "wrong", "overall_score": 10.0, "fine-grained_score": 1.25},
    ]
    (tmp_path / "rows").write_text(json.dumps({"instruction": "Q", "completions": scored}))
    done = import_file(db, tmp_path / "rows")
    (made,) = pairs.list_page(db)
    assert (made.pair.chosen[0].content, done.result.rules["fine_grained_scores"]) == ("right", 1)


# ---- what messages carry

CARRYING = {
    "prompt": [
        {"role": USER, "content": "Weather in Ulm?", "name": "kim"},
        {"role": ASSISTANT, "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "12 degrees"},
    ],
    "chosen": [{"role": ASSISTANT, "content": "It is 12.", "reasoning_content": "Simple."}],
    "rejected": [{"role": ASSISTANT, "content": "", "tool_calls": [CALL]}],
}


def test_tool_calls_names_and_reasoning_stay_with_their_message(db: Store) -> None:
    made = one(db, CARRYING)
    assert made["prompt"][0]["name"] == "kim"
    assert made["prompt"][1] == {"role": ASSISTANT, "content": "", "tool_calls": [CALL]}
    assert made["prompt"][2]["tool_call_id"] == "c1"
    assert made["chosen"] == CARRYING["chosen"]
    assert made["rejected"] == CARRYING["rejected"]
    assert verify.verify(db) == []
    done, _ = take(db, [{**CARRYING, "rejected": [{"role": ASSISTANT, "content": ""}]}, CARRYING])
    assert (done.duplicates, "not blank" in done.rejected[0].why) == (1, True)


@pytest.mark.parametrize("format", export_file.FORMATS["pairs"])
def test_an_export_has_what_messages_carry(db: Store, empty: Path, tmp_path: Path, format: str) -> None:
    take(db, [CARRYING, {"prompt": "plain", "chosen": "a", "rejected": "b"}])
    export_file.export(db, tmp_path / "out", format=format)
    (tmp_path / "two").write_bytes(empty.read_bytes())
    with Store.open(tmp_path / "two") as other:
        done = import_file(other, tmp_path / "out")
        assert (done.result.accepted, done.result.rejected) == (2, ())
        hashes = [{record.content_hash for record in pairs.list_page(store)} for store in (db, other)]
    assert hashes[0] == hashes[1]


def test_calls_that_cannot_be_kept_are_refused(db: Store) -> None:
    done, _ = take(db, [{**CARRYING, "chosen": [{"role": ASSISTANT, "content": "", "tool_calls": ["x"]}]}])
    assert "chosen[0].tool_calls" in done.rejected[0].why


def test_what_is_redacted_is_redacted_in_tool_calls(db: Store) -> None:
    db.redact = lambda text: text.replace("Ulm", "[town]")
    assert "Ulm" not in json.dumps(one(db, CARRYING))


# ---- what an import says


def test_import_reports_unused_columns_and_applied_rules(db: Store) -> None:
    rows = [
        {"question": f"Q{n}", "chosen": "a", "rejected": "b", "mood": "good", "note": ("", "x")[n % 2]}
        for n in range(4)
    ]
    done, _ = take(db, [*rows, {"prompt": "P", "chosen": "", "rejected": "b", "gone": 1}])
    assert done.unused_columns == {"mood": 4, "note": 2}
    assert done.rules == {"prompt_from_column": 4}
    assert done.rejected_count == 1


def test_columns_beyond_count_are_not_all_kept(db: Store) -> None:
    row = {"prompt": "Q", "chosen": "a", "rejected": "b"} | {f"c{n}": 1 for n in range(1500)}
    done, _ = take(db, [row])
    assert len(done.unused_columns) == 1000


@pytest.mark.parametrize("container", ["jsonl", "json", "csv", "parquet"])
def test_every_container_goes_by_the_same_rules(db: Store, tmp_path: Path, container: str) -> None:
    row = {
        "System Prompt": "S",
        "Question": "Q",
        "chosen": str(chat("", "good")[1:]),
        "rejected": "bad",
        "mood": "x",
    }
    path = tmp_path / "rows"
    if container == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    elif container == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
    else:
        path.write_text(json.dumps([row] if container == "json" else row) + "\n")
    done = import_file(db, path)
    (made,) = pairs.list_page(db)
    assert said(made.pair.to_json()["prompt"]) == [("system", "S"), (USER, "Q")]
    assert said(made.pair.to_json()["chosen"]) == [(ASSISTANT, "good")]
    assert done.result.unused_columns == {"mood": 1}


# ---- files


@pytest.mark.parametrize("line", ["sep=;", "SEP=|", '"sep=;"', "sep=\t"])
def test_the_sep_line_of_a_spreadsheet_is_skipped(db: Store, tmp_path: Path, line: str) -> None:
    mark = line.strip('"')[4]
    rows = [["prompt", "chosen", "rejected"], ["A bird, please.", "A wren.", "A lorry."]]
    (tmp_path / "rows").write_text("\r\n".join([line, *(mark.join(row) for row in rows)]) + "\r\n")
    done = import_file(db, tmp_path / "rows")
    assert (done.container, done.result.accepted, done.result.rejected) == ("csv", 1, ())


def test_a_header_with_a_column_twice_is_refused(db: Store, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("prompt,chosen,rejected,chosen\na,b,c,d\n")
    with pytest.raises(Invalid, match=r"header.*chosen.*once"):
        import_file(db, tmp_path / "rows")


def test_a_refusal_names_the_columns_found_and_missing(db: Store, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("prompt,better,worse\na,b,c\n")
    with pytest.raises(Invalid, match=r"better.*missing: chosen, rejected"):
        import_file(db, tmp_path / "rows")


def test_date_out_of_range_in_an_unused_column_is_ignored(db: Store, tmp_path: Path) -> None:
    texts = pa.array(["a", "b"])
    ages = pa.array([2**31 - 1, 0], pa.int32()).cast(pa.date32())
    odd = pa.array([2**60, 0], pa.duration("s"))
    columns = {"prompt": texts, "chosen": texts, "rejected": pa.array(["x", "y"]), "valid": ages, "took": odd}
    pq.write_table(pa.table(columns), tmp_path / "rows")
    done = import_file(db, tmp_path / "rows")
    assert (done.result.accepted, done.result.unused_columns) == (2, {"valid": 2, "took": 2})
    pq.write_table(pa.table({**columns, "chosen": ages}), tmp_path / "rows")
    done = import_file(db, tmp_path / "rows")
    assert "chosen" in done.result.rejected[0].why


@pytest.mark.parametrize("noun", ["pairs", "demonstrations", "likes"])
def test_the_directory_of_a_parquet_export_is_imported(db: Store, tmp_path: Path, noun: str) -> None:
    rows = {"prompt": "Q", "chosen": "a", "rejected": "b", "completion": "A", "label": True}
    needed = {"pairs": ("prompt", "chosen", "rejected"), "demonstrations": ("prompt", "completion")}
    row = {name: rows[name] for name in needed.get(noun, ("prompt", "completion", "label"))}
    (tmp_path / "rows").write_text(json.dumps(row))
    import_file(db, tmp_path / "rows", noun)
    export_file.export(db, tmp_path / "out", noun, "parquet")
    done = import_file(db, tmp_path / "out", noun)
    assert (done.result.duplicates, done.container) == (1, "parquet")
    (tmp_path / "out" / "data" / "more.parquet").write_bytes(b"")
    with pytest.raises(Invalid, match="one Parquet file"):
        import_file(db, tmp_path / "out", noun)


# ---- reasoning as HTML


def test_html_reasoning_is_kept_apart_in_other_formats_too(db: Store) -> None:
    html = '<details type="reasoning" done="true"><summary>Thought</summary>\n&gt; Hm.\n</details>\nGood.'
    made = one(db, {"prompt": "Q", "chosen": html, "rejected": "<details>mine</details>"})
    assert made["chosen"] == [{"role": ASSISTANT, "content": "Good.", "reasoning_content": "Hm."}]
    assert said(made["rejected"]) == [(ASSISTANT, "<details>mine</details>")]
