"""The client's errors: `ApiError` > `PlatformUnreachable`, read from either error form of the platform."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx


class ApiError(Exception):
    """The platform refused or failed a request.

    `status` is the HTTP status (0 when there was no answer), `title` a short name of the problem, `detail`
    the sentence to show, `field` the offending field and `accepted` what it accepts, where the platform
    said so; `retry_after` is in seconds.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        field: str | None = None,
        accepted: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.title = title
        self.detail = detail
        self.field = field
        self.accepted = accepted
        self.retry_after = retry_after


class PlatformUnreachable(ApiError):
    """No answer from the platform: it is not running, or the connection broke."""


def api_error(response: httpx.Response) -> ApiError:
    """Read an `ApiError` from a failed response of either error form (its body must have been read)."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    retry = response.headers.get("retry-after", "")
    wait = float(retry) if retry.replace(".", "", 1).isdigit() else None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return ApiError(
            response.status_code,
            str(error.get("code") or error.get("type") or response.reason_phrase),
            str(error.get("message", "")),
            error.get("param"),
            error.get("accepted"),
            wait,
        )
    if isinstance(body, dict) and ("title" in body or "detail" in body):
        return problem_error(response.status_code, response.reason_phrase, body, wait)
    return ApiError(response.status_code, response.reason_phrase, response.text[:500], retry_after=wait)


def problem_error(
    status: int, title: str, body: Mapping[str, Any], retry_after: float | None = None
) -> ApiError:
    """Read an `ApiError` from problem details; `title` is for those that have none."""
    detail = body.get("detail", "")
    return ApiError(
        status,
        str(body.get("title", title)),
        detail if isinstance(detail, str) else json.dumps(detail),
        body.get("field"),
        body.get("accepted"),
        retry_after,
    )
