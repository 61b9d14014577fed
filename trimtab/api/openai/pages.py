"""Pages of a list as OpenAI's clients read them, and the errors of what is asked by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from serve.errors import RequestError

After = Annotated[str | None, Query(description="id of the last object of the page before")]


def page(found: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Return a page of `limit` objects, of which `found` holds one more where there are more."""
    data = list(found[:limit])
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }


def missing(noun: str, id: str, param: str) -> RequestError:
    """Return the error for an id that nothing has; `param` is the field that named it."""
    return RequestError(f"No such {noun}: {id[:200]!r}.", param, status=404, code="not_found")


def bad_value(param: str, value: object, accepted: str, code: str = "invalid_value") -> RequestError:
    """Return the error for a value that a field does not accept."""
    shown = repr(value)
    shown = shown if len(shown) <= 100 else shown[:97] + "..."
    return RequestError(f"`{param}`: {shown} is not accepted; accepted: {accepted}.", param, code=code)
