"""CSV files: separators, quotes, bad rows, and files that break off."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import Invalid
from store.transfer import csv_rows, decompression
from tests.store.transfer.reading import ROW, read


def test_csv_with_json_in_a_cell_stays_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("prompt", "chosen", "rejected"), ('Parse\n{"a": 1}\n{}\nplease', "a", "b")])
    told, rows, _ = read(path, path.read_bytes())
    assert (told, rows[0]["prompt"]) == ("csv", 'Parse\n{"a": 1}\n{}\nplease')


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_columns_are_separated_as_in_the_header(path: Path, separator: str, end: str) -> None:
    lines = (
        ("prompt", " chosen", "rejected"),
        ("one; two, three\tfour", '"quoted"', ""),
        ("Q", "good", "bad"),
    )
    cells = [
        '"' + cell.replace('"', '""') + '"' if n else cell for n, line in enumerate(lines) for cell in line
    ]
    text = end.join(separator.join(cells[n : n + 3]) for n in (0, 3, 6))
    assert read(path, text)[:2] == ("csv", [{"prompt": "one; two, three\tfour", "chosen": '"quoted"'}, ROW])


cell = st.text(st.sampled_from('a,;\t"\n\r \u2028é'), max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.lists(cell, min_size=2, max_size=3), max_size=6),
    separator=st.sampled_from(csv_rows.DELIMITERS),
)
def test_what_was_written_as_csv_is_read(rows: list[list[str]], separator: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([("one", "two", "three"), *rows])
    stream = decompression.text(iter([text.getvalue().encode()]))
    expected = [{k: v for k, v in zip(("one", "two", "three"), row, strict=False) if v} for row in rows]
    assert list(csv_rows.rows(stream)) == expected


HEAD = "prompt,chosen,rejected\n"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('"quoted"tail,y,n\n', "expected after"),
        ('"unclosed,y,n\n', "not closed"),
        ("one,two,three,four\n", "3 cells"),
        ('"many\nlines" of it,y,n\n', "expected after"),
        ('"many\nQ,good,bad\nlines" of it,y,n\n', "expected after"),
    ],
)
def test_bad_csv_row_is_reported_and_the_others_are_read(path: Path, bad: str, why: str) -> None:
    good = 'Q,good,bad\n"Q","good",bad\n'
    _, rows, where = read(path, f"{HEAD}{good}{bad}{good}{good}")
    assert where is None
    assert [row for row in rows if row == ROW] == [ROW] * 6
    told = [row for row in rows if row != ROW]
    assert len(told) == 1
    assert why in told[0]


def test_csv_that_ends_within_a_cell_breaks_off(path: Path) -> None:
    whole = HEAD + "Q,good,bad\n"
    for cut in ('"Q,go', '"a cell\nof some, lines\nthat never ends', '"a cell\n'):
        assert read(path, whole + cut)[1:] == ([ROW], "a quoted cell is not closed")


def test_a_header_that_is_no_csv_is_refused(path: Path) -> None:
    with pytest.raises(Invalid, match="header"):
        read(path, '"prompt" x,chosen,rejected\nQ,good,bad\n')
