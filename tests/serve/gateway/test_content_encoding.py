"""Compressed request bodies: what is read, and up to which size."""

from __future__ import annotations

import gzip
import zlib

import pytest

from serve.errors import RequestError
from serve.gateway.content_encoding import decompress

TEXT = b'{"model": "assistant"}' * 10


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("GZip ", gzip.compress(TEXT[:9], mtime=0) + gzip.compress(TEXT[9:], mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("identity", TEXT),
        ("", TEXT),
    ],
)
def test_body_is_decompressed(encoding: str, data: bytes) -> None:
    assert decompress(data, encoding, len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [
        ("br", TEXT, 415),
        ("zstd", TEXT, 415),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT, mtime=0), mtime=0), 415),
        ("gzip", TEXT, 400),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-5], 400),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"more", 400),
        ("gzip", gzip.compress(bytes(10**8), mtime=0), 413),
        ("gzip", gzip.compress(TEXT, mtime=0) * 2, 413),
    ],
)
def test_other_bodies_are_refused_with_the_header(encoding: str, data: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        decompress(data, encoding, len(TEXT) + 5)
    assert caught.value.status == status
    if status == 415:
        assert caught.value.param == "Content-Encoding"
        assert "gzip" in caught.value.headers["Accept-Encoding"]
