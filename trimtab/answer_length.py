"""How long answers may be: a release's own limit, the gateway's, and a request's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def max_answer_tokens(sampling: Mapping[str, Any], *limits: int | None) -> int | None:
    """Return the lowest of a release's own limit and `limits`; None where there is none."""
    given = (sampling.get("max_tokens"), *limits)
    return min((int(limit) for limit in given if limit), default=None)
