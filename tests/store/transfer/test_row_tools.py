"""Definitions of tools in files: read from a row's column, kept with its first message, written where a format has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from store.db.database import Store
from store.training_data import demonstrations, pairs
from store.training_data.import_file import import_file
from store.transfer.export_file import FORMATS, export

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "b": 1, "a": 2}},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
KEPT = (
    '[{"type":"function","function":{"name":"weather","description":null,'
    '"parameters":{"type":"object","b":1,"a":2}}}]'
)
PROMPT = [{"role": "user", "content": "Rain?"}]
CHOSEN = [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
REJECTED = [{"role": "assistant", "content": "No."}]
PAIR = {"chosen": CHOSEN, "rejected": REJECTED}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, **PAIR, "tools": [WEATHER]},
        {"prompt": "Rain?", **PAIR, "Tools": json.dumps([WEATHER])},
        {"prompt": "Rain?", **PAIR, "functions": [WEATHER["function"]]},
        {"messages": PROMPT, **PAIR, "tools": [WEATHER]},
        {"chosen": PROMPT + CHOSEN, "rejected": PROMPT + REJECTED, "tools": [WEATHER]},
        {"prompt": [{**PROMPT[0], "tools": KEPT}], **PAIR, "tools": [WEATHER]},
    ],
)
def test_tools_of_a_row_are_kept_with_its_first_message(db: Store, row: dict[str, Any]) -> None:
    done = pairs.import_rows(db, [row], "test")
    assert done.rejected == ()
    assert done.rules["tools_kept"] == 1
    [record] = pairs.list_page(db)
    assert record.pair.to_json()["prompt"] == [{**PROMPT[0], "tools": KEPT}]
    assert record.pair.to_json()["chosen"] == CHOSEN


@pytest.mark.parametrize("nothing", [None, [], "", "[]", "null"])
def test_no_tools_are_none(db: Store, nothing: object) -> None:
    pairs.import_rows(db, [{"prompt": "Rain?", **PAIR, "tools": nothing}], "test")
    assert pairs.list_page(db)[0].pair.to_json()["prompt"] == PROMPT


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"prompt": "Rain?", "tools": [{"type": "retrieval"}]}, "tools[0]"),
        ({"prompt": "Rain?", "functions": [{}]}, "functions[0].function.name"),
        ({"prompt": [{**PROMPT[0], "tools": [{"name": "clock"}]}], "tools": [WEATHER]}, "tools"),
    ],
)
def test_tools_that_cannot_be_kept_refuse_the_row(db: Store, row: dict[str, Any], named: str) -> None:
    [refused] = pairs.import_rows(db, [{**row, **PAIR}], "test").rejected
    assert refused.why.startswith(f"{named}: ")


@pytest.mark.parametrize(
    ("noun", "format"), [(noun, format) for noun in ("pairs", "demonstrations") for format in FORMATS[noun]]
)
def test_an_export_with_tools_reads_back_as_the_same_rows(
    db: Store, empty: Path, tmp_path: Path, noun: str, format: str
) -> None:
    rows = pairs if noun == "pairs" else demonstrations
    answer = PAIR if noun == "pairs" else {"completion": CHOSEN}
    rows.import_rows(
        db, [{"prompt": PROMPT, **answer, "tools": [WEATHER]}, {"prompt": "Dry?", **answer}], "test"
    )
    export(db, tmp_path / "out", noun, format)
    before = [record.content_hash for record in rows.list_page(db)]
    other = Store.open(shutil.copy(empty, tmp_path / "other.duckdb"))
    file = tmp_path / "out" / "data" / "train.parquet" if format == "parquet" else tmp_path / "out"
    with other:
        done = import_file(other, file, noun, format="openai" if format == "openai" else None)
        assert done.result.rejected == ()
        assert [record.content_hash for record in rows.list_page(other)] == before


def test_where_the_formats_have_the_tools(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, [{"prompt": PROMPT, **PAIR, "tools": [WEATHER]}], "test")
    for format in ("trl", "openai", "parquet"):
        export(db, tmp_path / format, "pairs", format)
    assert json.loads((tmp_path / "trl").read_text())["tools"] == KEPT
    assert json.loads((tmp_path / "openai").read_text())["input"]["tools"] == [WEATHER]
    assert pq.read_table(tmp_path / "parquet" / "data" / "train.parquet")["tools"].to_pylist() == [KEPT]
