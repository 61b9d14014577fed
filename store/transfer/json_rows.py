"""Rows out of JSON: lines, arrays, values one after another. What is not a row comes as `Invalid`, and the next is read."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from io import BufferedIOBase

from store.errors import Invalid
from store.transfer.decompression import BreaksOff

MAX_DEPTH = 100
"""Lists and objects within each other in a row, at most. Python's own limit depends on who calls."""

MAX_ROW = 32 * 2**20
"""Bytes (or characters) of a row, at most: what is held of a file while the end of a row is looked for."""

_CHUNK = 2**17  # smaller is slower with long rows, larger with text that is not Latin
_KEPT = 1000  # characters of a row that is too long, for the file of refused rows
_decode = json.JSONDecoder().raw_decode
_GAP = re.compile(r"[\s,]*+")
# A bracket, a comma, or a string with what ends it: its quote, a new line (which none may hold), or the end of the text.
_TOKEN = re.compile(r'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+(?P<end>"|\\?\n|\\?\Z)|[\[\]{},]')
_FOLLOWS = re.compile(r"[\s,\]]")
_OBJECT = re.compile(r"[\s,]*+\{")


class TooDeep(Invalid):
    """JSON whose lists and objects lie deeper within each other than `MAX_DEPTH`."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(field, text, f"lists and objects within each other {MAX_DEPTH} deep at most")


def parse(text: str, field: str = "row") -> object:
    """Return what JSON text says. Raises `Invalid` naming `field` for what is not JSON, and `TooDeep`."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise TooDeep(field, text) from None
    except json.JSONDecodeError as error:
        raise Invalid(field, text, f"JSON ({error.msg} at character {error.pos + 1})") from None
    except ValueError as error:
        raise Invalid(field, text, f"JSON ({error})") from None
    _check_depth(value, text, 0, len(text), field)
    return value


def lines(stream: BufferedIOBase) -> Iterator[object]:
    """Yield the rows of JSON lines. Raises `BreaksOff` where the last is not whole."""
    for line in iter(partial(stream.readline, MAX_ROW), b""):
        if line.isspace():
            continue
        whole = line.endswith(b"\n")
        text = line.decode("utf-8", "surrogateescape")
        if not whole and len(line) == MAX_ROW:
            while (rest := stream.readline(MAX_ROW)) and not rest.endswith(b"\n"):
                pass
            yield _too_long(text)
            continue
        try:
            value: object = parse(text)
        except Invalid as error:
            if not whole and not isinstance(error, TooDeep):
                raise BreaksOff("the last line is not whole") from None
            value = error
        yield value


def elements(stream: BufferedIOBase) -> Iterator[object]:
    """Yield the elements of a JSON array, or JSON values that follow each other, reading UTF-8 from `stream`.

    An element that is not JSON ends where its brackets do. Raises `BreaksOff` where the array or the last value is not
    whole, where an element is longer than `MAX_ROW`, and where something follows the array.
    """
    text = _Text(stream)
    text.skip_gap()
    in_array = text.starts("[")
    text.at += in_array
    while True:
        text.skip_gap()
        if text.at == len(text.text):
            if in_array:
                raise BreaksOff("the JSON array is not closed")
            return
        if in_array and text.starts("]"):
            text.at += 1
            text.skip_gap()
            if text.at < len(text.text):
                raise BreaksOff("something follows the end of the JSON array")
            return
        yield _element(text, in_array)


_NOT_WHOLE = object()


class _Text:
    """A window of the stream: `text` from `at` on is still to be read."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        # Bytes that are not UTF-8 become lone surrogates, which no value of the store accepts.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._broken: BreaksOff | None = None
        self.text, self.at = "", 0

    def fill(self) -> bool:
        """Add to the window, and return whether there was more.

        As much again as is in it: a long element is looked through anew each time.
        """
        data = b""
        wanted = max(_CHUNK, len(self.text) - self.at)
        while self._broken is None and len(data) < wanted and (more := self._read(wanted - len(data))):
            data += more
        if self._broken and not data:
            raise self._broken
        self.text = self.text[self.at :] + self._decoder.decode(data, final=not data)
        self.at = 0
        return bool(data)

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read1(size)
        except BreaksOff as error:
            self._broken = error  # once, and what was read before it counts
            return b""

    def skip_gap(self) -> None:
        """Go to what follows white space and commas, or to the end."""
        while True:
            if gap := _GAP.match(self.text, self.at):
                self.at = gap.end()
            if self.at < len(self.text) or not self.fill():
                return

    def starts(self, what: str) -> bool:
        return self.text.startswith(what, self.at)


def _element(text: _Text, in_array: bool) -> object:
    try:
        value = _whole(text)
        if value is _NOT_WHOLE and len(text.text) - text.at < _CHUNK and text.fill():
            value = _whole(text)  # most of those that the window ends in are whole in the next
        if value is _NOT_WHOLE:
            length = _length(text, in_array)
            start, text.at = text.at, text.at + length
            value = parse(text.text[start : text.at])
    except Invalid as error:
        return error
    return value


def _whole(text: _Text) -> object:
    """Read the element that is next where it is JSON and whole in the window."""
    try:
        value, end = _decode(text.text, text.at)
    except (ValueError, RecursionError):
        return _NOT_WHOLE
    # A number may go on in what was not read yet, and a word may follow it; what has brackets is whole.
    if not isinstance(value, dict | list) and not _FOLLOWS.match(text.text, end):
        return _NOT_WHOLE
    start, text.at = text.at, end
    _check_depth(value, text.text, start, end, "row")
    return value


def _length(text: _Text, in_array: bool) -> int:
    """Return how long the element is that is next, whether or not it is JSON, filling the window up to its end."""
    open_brackets: list[str] = []
    counts = {"[": 0, "{": 0}
    done = 0
    while True:
        for token in _TOKEN.finditer(text.text, text.at + done):
            what = token[0]
            if what[0] == '"':
                if token["end"].endswith("\n"):
                    # The closing quote is missing. An object that begins on the next line is the next element.
                    if open_brackets[-1:] == ["{"] and _OBJECT.match(text.text, token.end()):
                        return token.end() - text.at
                elif token["end"] != '"':
                    done = token.start() - text.at
                    break
            elif what in "[{":
                open_brackets.append(what)
                counts[what] += 1
            elif what == ",":
                if not open_brackets:
                    return token.start() - text.at
            else:
                opener = "[" if what == "]" else "{"
                if counts[opener]:
                    while (last := open_brackets.pop()) != opener:  # those within it were never closed
                        counts[last] -= 1
                    counts[opener] -= 1
                    if not open_brackets:
                        return token.end() - text.at
                elif in_array and what == "]":
                    return token.start() - text.at
        else:
            done = len(text.text) - text.at
        if len(text.text) - text.at > MAX_ROW:
            raise BreaksOff(f"a row without an end in {MAX_ROW // 2**20} MiB")
        if not text.fill():
            break
    if in_array:
        raise BreaksOff("the JSON array is not closed")
    if open_brackets or done < len(text.text):
        raise BreaksOff("the last value is not whole")
    return len(text.text)


def _check_depth(value: object, text: str, start: int, end: int, field: str) -> None:
    if text.count("[", start, end) + text.count("{", start, end) <= MAX_DEPTH:
        return
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise TooDeep(field, text[start:end])
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]


def _too_long(text: str) -> Invalid:
    return Invalid("row", text[:_KEPT], f"a row of at most {MAX_ROW // 2**20} MiB")
