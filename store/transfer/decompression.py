"""What a file holds before gzip or zstd, text as UTF-8: a stream that gives all there is before it breaks off."""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, cast

import pyarrow as pa

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_READ = 65536  # bytes of the file at a time
_MOST = 2**20  # bytes unpacked at a time
_ZSTD_READ = 4096  # when zstd data turns out damaged, what it gave in the same read is lost


class BreaksOff(Exception):
    """The data ends too early or cannot be read on; the text says why, for people."""


def compression(magic: bytes) -> str | None:
    """Tell "gzip", "zstd" or None from the first bytes of a file."""
    return "gzip" if magic[:2] == _GZIP else "zstd" if magic[:4] == _ZSTD else None


def chunks(raw: IO[bytes], compression: str | None) -> Iterator[bytes]:
    """Yield what a file holds, unpacked, a piece at a time; raises `BreaksOff` after the last that can be had."""
    unpack: dict[str | None, Callable[[IO[bytes]], Iterator[bytes]]] = {"gzip": _gunzip, "zstd": _unzstd}
    try:
        yield from unpack.get(compression, _plain)(raw)
    except OSError as error:
        raise BreaksOff(f"the file cannot be read on: {error}") from error


def text(chunks: Iterator[bytes]) -> io.BufferedReader:
    """Return text as a stream of UTF-8; a byte order mark tells UTF-16 and goes. Reading it raises `BreaksOff`."""
    return io.BufferedReader(cast(io.RawIOBase, _Raw(_utf8(chunks))), _MOST)


def _plain(raw: IO[bytes]) -> Iterator[bytes]:
    yield from iter(partial(raw.read, _MOST), b"")


def _gunzip(raw: IO[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(31)
    try:
        for packed in iter(partial(raw.read, _READ), b""):
            while packed:
                if member.eof:
                    packed = packed.lstrip(b"\0")  # tapes and disks pad with zeros
                    if not packed:
                        break
                    member = zlib.decompressobj(31)  # gzip files may be several, one after the other
                before = member.copy()
                try:
                    data = member.decompress(packed, _MOST)
                except zlib.error:
                    yield from _up_to_damage(before, packed)
                    raise
                yield data
                packed = member.unconsumed_tail or member.unused_data
        yield member.flush()
    except zlib.error as error:
        raise BreaksOff(f"the gzip data is damaged: {error}") from error
    if not member.eof:
        raise BreaksOff("the gzip data ends early")


def _up_to_damage(member: Any, packed: bytes) -> Iterator[bytes]:
    """Yield what comes before damage: the call that meets it returns nothing, so ever smaller parts are tried."""
    size = len(packed)
    while size and packed:
        before = member.copy()
        try:
            data = member.decompress(packed[:size])
        except zlib.error:
            member, size = before, size // 2
        else:
            packed = packed[size:]
            yield data


def _unzstd(raw: IO[bytes]) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    data = bytearray()
    try:
        while some := stream.read(_ZSTD_READ):
            data += some
            if len(data) >= _MOST:
                yield bytes(data)
                data.clear()
    except (OSError, pa.ArrowException) as error:
        yield bytes(data)
        raise BreaksOff(f"the zstd data ends early or is damaged: {error}") from error
    yield bytes(data)


def _utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= 3:
            break
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        # Half a surrogate pair becomes bytes that are not UTF-8, so that the row it is in is refused.
        yield decoder.decode(start).encode("utf-8", "surrogatepass")
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    else:
        yield start.removeprefix(codecs.BOM_UTF8)
        yield from chunks


class _Raw(io.RawIOBase):
    """A raw stream of pieces of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        taken = min(len(buffer), len(self._left))
        buffer[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken
