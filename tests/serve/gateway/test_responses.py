"""Usage is read from where it stands in an answer."""

from __future__ import annotations

from typing import Any

import pytest

from serve.gateway.responses import usage


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"usage":{"prompt_tokens":9},"prompt_logprobs":null}', {"prompt_tokens": 9}),
        (b'data: {"choices":[],"usage":{"prompt_tokens":9}}', {"prompt_tokens": 9}),
        (b'{"usage":{"details":{"cached":2},"total":3},"x":{}}', {"details": {"cached": 2}, "total": 3}),
        (b'{"text":"\\"usage\\":{}","usage":{"note":"}"}}', {"note": "}"}),
        (b'{"usage":{"prompt_tokens":9', None),
        (b'{"usage":null}', None),
        (b"", None),
    ],
)
def test_usage_is_read_flat_or_nested_and_never_from_a_part(data: bytes, expected: Any) -> None:
    assert usage(data) == expected
