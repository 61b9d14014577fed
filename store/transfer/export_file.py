"""Pairs and demonstrations out of the store, filtered, as a stream, in formats that others read.

Import of an export gives the same content hashes. Weight and tags travel in every format but OpenAI's, which has no
place for them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from store import carried
from store.db import bulk
from store.db.database import Store
from store.db.rows import scalar
from store.errors import Conflict, Invalid
from store.ids import new_id
from store.message_text import looks_like_messages
from store.transfer import row_tools
from store.transfer.export_filter import Filter, conditions_of

FORMATS = {
    "pairs": ("trl", "parquet", "openai", "ultrafeedback", "csv"),
    "demonstrations": ("trl", "parquet", "openai", "csv"),
    "likes": ("trl", "parquet", "csv"),
}
_PARTS = {
    "pairs": ("prompt", "chosen", "rejected"),
    "demonstrations": ("prompt", "completion"),
    "likes": ("prompt", "completion"),
}
_EXTRA = {"pairs": ("weight", "tags"), "demonstrations": ("tags",), "likes": ("liked as label",)}
_BATCH = 10_000  # rows whose texts are held at a time
_CALL = pa.struct(
    [
        ("id", pa.string()),
        ("type", pa.string()),
        ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())])),
    ]
)
# The messages of a Parquet file in which one carries more than role and text (store.carried).
_CARRYING = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("tool_calls", pa.list_(_CALL)),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
            ("reasoning_content", pa.string()),
        ]
    )
)

# A line of a file as an SQL struct: DuckDB makes JSON of it in a seventh of the time that Python needs.
# The binarised form; `prompt_turns` says where the prompt ends, also when both answers begin alike.
_ULTRAFEEDBACK = """
struct_pack(
    prompt := coalesce(list_filter(prompt, lambda m: m.role = 'user')[-1].content, ''),
    prompt_id := sha256(coalesce(list_filter(prompt, lambda m: m.role = 'user')[-1].content, '')),
    chosen := prompt || chosen,
    rejected := prompt || rejected,
    messages := prompt || chosen,
    score_chosen := 10.0::double,
    score_rejected := 1.0::double,
    prompt_turns := len(prompt),
    weight,
    tags
)
"""
# Where the parts of a row are in a line of each format: (path, parts whose messages are there one after another).
_PLACES = {
    ("pairs", "openai"): (
        ("input.messages", ("prompt",)),
        ("preferred_output", ("chosen",)),
        ("non_preferred_output", ("rejected",)),
    ),
    ("demonstrations", "openai"): (("messages", ("prompt", "completion")),),
    ("pairs", "ultrafeedback"): (
        ("chosen", ("prompt", "chosen")),
        ("rejected", ("prompt", "rejected")),
        ("messages", ("prompt", "chosen")),
    ),
}
_LINES = {
    ("pairs", "trl"): "struct_pack(prompt, chosen, rejected, weight, tags)",
    ("demonstrations", "trl"): "struct_pack(prompt, completion, tags)",
    ("likes", "trl"): "struct_pack(prompt, completion, label := liked)",
    ("pairs", "openai"): """
        struct_pack(
            input := struct_pack(messages := prompt, tools := []::varchar[], parallel_tool_calls := true),
            preferred_output := chosen,
            non_preferred_output := rejected
        )
        """,
    ("demonstrations", "openai"): "struct_pack(messages := prompt || completion)",
    ("pairs", "ultrafeedback"): _ULTRAFEEDBACK,
}


def export(
    db: Store,
    path: str | Path,
    noun: str = "pairs",
    format: str = "trl",
    where: Filter | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Write the rows that may be trained on to `path` and return how many.

    The file, or for `parquet` the directory, appears whole or not at all.

    `trl` (JSONL) and `parquet` are TRL's conversational columns; `parquet` makes a directory with a dataset card that
    `datasets.load_dataset(path)` reads. Reads one instant of the store. Raises `Conflict` where `path` exists, and for
    `parquet` where no row matches, since `datasets` loads no dataset without rows; `Invalid` for the noun, the format
    or a filter that the noun does not have.
    """
    if noun not in FORMATS:
        raise Invalid("noun", noun, FORMATS)
    if format not in FORMATS[noun]:
        raise Invalid("format", format, FORMATS[noun])
    path = Path(path)
    if path.exists():
        raise Conflict(f"{path} exists; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{new_id('export')}")
    columns = ", ".join((*_PARTS[noun], *_EXTRA[noun]))
    line = f"to_json({_LINES[noun, format]}) as line" if (noun, format) in _LINES else columns
    write: Callable[..., int]
    if format == "parquet":
        carries = _carries(db, noun, where or Filter())
        batches = _batches(db, noun, f"{columns}, carried", where or Filter())
        write = partial(_write_parquet, carries=carries)
    else:
        batches = _batches(db, noun, f"{line}, carried, len(prompt) as prompt_length", where or Filter())
        write = _write_csv if format == "csv" else partial(_write_lines, format=format)
    try:
        count = write(staging, noun, batches, on_progress or (lambda count: None))
        staging.rename(path)
        return count
    finally:
        with suppress(FileNotFoundError):
            if staging.is_dir():
                for file in sorted(staging.rglob("*"), reverse=True):
                    file.rmdir() if file.is_dir() else file.unlink()
                staging.rmdir()
            else:
                staging.unlink()


def _carries(db: Store, noun: str, where: Filter) -> bool:
    """Tell whether a message of the rows carries more than role and text."""
    conditions, params = conditions_of(db, noun, where)
    return bool(
        scalar(db.read(), f"select count(*) from {noun} where carried is not null and {conditions}", params)
    )


def _batches(db: Store, noun: str, columns: str, where: Filter) -> Iterator[duckdb.DuckDBPyRelation]:
    """Yield `columns` of the next rows to fetch, in order; to be fetched before the next are asked for.

    First the keys are sorted, then the texts are read in their order, a few at a time: to sort the texts themselves, or to
    hold the result, would take memory that grows with the store.
    """
    conditions, params = conditions_of(db, noun, where)
    key = "id" if noun == "likes" else "seq"
    cursor = db.cursor()
    try:
        cursor.execute("begin")
        keys = cursor.sql(
            f"select {key} as key from {noun} where {conditions} order by key", params=params
        ).to_arrow_table()["key"]
        for start in range(0, len(keys), _BATCH):
            some = keys.slice(start, _BATCH)
            cursor.register("chosen_keys", pa.table({"key": some}))
            yield cursor.sql(
                f"""
                select {columns}
                from {noun}
                semi join chosen_keys on chosen_keys.key = {noun}.{key}
                where {key} between $first and $last
                order by {key}
                """,
                params={"first": some[0].as_py(), "last": some[-1].as_py()},
            )
    finally:
        cursor.close()


def _write_lines(
    path: Path,
    noun: str,
    batches: Iterator[duckdb.DuckDBPyRelation],
    tell: Callable[[int], None],
    format: str,
) -> int:
    places = _PLACES.get((noun, format)) or tuple((part, (part,)) for part in _PARTS[noun])
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for batch in batches:
            lines = batch.fetchall()
            file.writelines(
                f"{_with_carried(line, packed, length, places) if packed else line}\n"
                for line, packed, length in lines
            )
            tell(count := count + len(lines))
    return count


def _with_carried(
    line: str, packed: str, prompt_length: int, places: Iterable[tuple[str, Sequence[str]]]
) -> str:
    """Return a line with what its messages carry."""
    row = json.loads(line)
    for path, parts in places:
        messages = row
        for key in path.split("."):
            messages = messages[key]
        for start, part in zip((0, prompt_length), parts, strict=False):
            for place, what in carried.unpack(packed, part).items():
                messages[start + place] |= carried.load(what)
        if tools := row_tools.apart(messages):
            _put_tools(row, path, tools)
    return json.dumps(row, ensure_ascii=False)


def _put_tools(row: dict[str, Any], path: str, tools: str) -> None:
    """Put definitions of tools where a format has them: a list beside OpenAI's messages, JSON text in a column of TRL's."""
    if path == "input.messages":
        row["input"]["tools"] = row_tools.as_list(tools)
    elif path == "messages" and "prompt" not in row:
        row["tools"] = row_tools.as_list(tools)
    else:
        row["tools"] = tools


def _write_csv(
    path: Path, noun: str, batches: Iterator[duckdb.DuckDBPyRelation], tell: Callable[[int], None]
) -> int:
    count = 0
    roles = ["user" if part == "prompt" else "assistant" for part in _PARTS[noun]]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*_PARTS[noun], *(column.rpartition(" ")[2] for column in _EXTRA[noun])))
        for batch in batches:
            rows = batch.fetchall()
            for *row, packed, _ in rows:
                parts = (
                    carried.merged(messages, packed, part) if packed else messages
                    for part, messages in zip(_PARTS[noun], row, strict=False)
                )
                cells = map(_csv_cell, parts, roles)
                extra = (json.dumps(value, ensure_ascii=False) for value in row[len(roles) :])
                writer.writerow((*cells, *extra))
            tell(count := count + len(rows))
    return count


def _write_parquet(
    path: Path,
    noun: str,
    batches: Iterator[duckdb.DuckDBPyRelation],
    tell: Callable[[int], None],
    carries: bool,
) -> int:
    schema = pa.schema(
        [(part, _CARRYING if carries else bulk.MESSAGES) for part in _PARTS[noun]]
        + ([("tools", pa.string())] if carries else [])
        + {
            "pairs": [("weight", pa.float64()), ("tags", bulk.TEXTS)],
            "demonstrations": [("tags", bulk.TEXTS)],
            "likes": [("label", pa.bool_())],
        }[noun]
    )
    count = 0
    (path / "data").mkdir(parents=True)
    with pq.ParquetWriter(path / "data" / "train.parquet", schema, compression="zstd") as writer:
        for batch in batches:
            table = batch.to_arrow_table()
            if carries:
                rows = [_whole(row, noun) for row in table.to_pylist()]
                table = pa.Table.from_pylist(rows, schema)
            else:
                table = table.drop_columns("carried").cast(schema)
            writer.write_table(table)
            tell(count := count + len(table))
    if not count:
        raise Conflict(
            f"no {noun} match: a dataset of no rows cannot be loaded, so nothing was written; change the filters"
        )
    (path / "README.md").write_text(_card(noun, count), "utf-8")
    return count


def _whole(row: dict[str, Any], noun: str) -> dict[str, Any]:
    """Return a row whose messages have what they carry."""
    packed = row.pop("carried")
    parts = {part: carried.merged(row[part], packed, part) for part in _PARTS[noun]}
    return row | parts | {"tools": row_tools.apart(parts["prompt"])}


def _card(noun: str, count: int) -> str:
    kind = {"pairs": "preference", "demonstrations": "prompt-completion", "likes": "unpaired preference"}[
        noun
    ]
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train.parquet\n"
        f"tags:\n- trl\n- {kind.replace(' ', '-')}\n---\n\n# {noun.capitalize()} from Trimtab\n\n"
        f"{count:,} rows in TRL's conversational {kind} format: {', '.join(_PARTS[noun])} are message lists.\n"
    )


def _csv_cell(messages: list[dict[str, str]], role: str) -> str:
    """Return plain text for one message of the expected role that is not blank, else the message list as JSON."""
    text = messages[0]["content"]
    plain = len(messages) == 1 and messages[0].keys() == {"role", "content"} and messages[0]["role"] == role
    if plain and text.strip() and not looks_like_messages(text):
        return text
    return json.dumps(messages, ensure_ascii=False)
