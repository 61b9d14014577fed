"""Every failure of `/api` as RFC 9457 problem details: `{type, title, status, detail, field?, accepted?, errors?}`.

One table maps our error types to statuses; nothing is decided on the text of a message.
"""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from align.errors import AlignError, DiskFull, OutOfMemory, RecipeError
from align.evaluation.suite import EvaluationError
from align.evaluation.suite_file import SuiteError
from align.prepare import PrepareError
from align.recipe.plan import PlanError
from serve.error_status import STATUSES as SERVING
from serve.error_status import retry_after, status_of
from serve.errors import Forbidden, RequestError
from serve.gateway.openai_paths import is_openai_path
from serve.gateway.responses import error_response
from trimtab.errors import (
    ModelNotPrepared,
    ModelRefused,
    PathRefused,
    PlatformNotFound,
    SettingsError,
    StoreNotFound,
    TrimtabError,
)
from trimtab.runs.workers import TrainingFailed, TrainingStopped

log = logging.getLogger(__name__)


_SURROGATE = re.compile("[\ud800-\udfff]")


class ProblemResponse(JSONResponse):
    """Problem details; what has no encoding in UTF-8 is shown as its escape, since a message may repeat anything."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """Write the body."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


class Problem(Exception):
    """A failure with its status, raised by an operation that knows what went wrong."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        self.status, self.detail, self.more = status, detail, more
        super().__init__(detail)


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem-details response; `more` are further members (those that are None are left out)."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body |= {name: value for name, value in more.items() if value is not None}
    return ProblemResponse(body, status, headers=headers)


def failure(path: str, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a failure in the error form of its path: OpenAI's, or problem details."""
    if not is_openai_path(path):
        return problem(status, detail, headers)
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    kind = Forbidden if status == 403 else RequestError
    return error_response(kind(detail, status=status, code=code, headers=headers))


async def refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request of `/api` that does not reach its route."""
    await problem_of(error)(scope, receive, send)


# Our errors but those of serving and store, which `serve.error_status` has.
STATUSES: dict[type[Exception], int] = {
    PlanError: 422,
    SuiteError: 422,
    EvaluationError: 502,
    DiskFull: 507,
    OutOfMemory: 507,
    PrepareError: 503,
    AlignError: 409,
    TrainingFailed: 409,
    TrainingStopped: 409,
    SettingsError: 422,
    ModelRefused: 422,
    StoreNotFound: 404,
    PlatformNotFound: 503,
    ModelNotPrepared: 503,
    TrimtabError: 409,
}


def install(app: FastAPI) -> None:
    """Make `app` answer our errors as problem details, and below `/v1` in OpenAI's form."""

    def answer(request: Request, error: Exception) -> Response:
        return openai_error(error) if is_openai_path(request.url.path) else problem_of(error)

    for kind in (Problem, RequestError, PathRefused, *SERVING, *STATUSES):
        app.add_exception_handler(kind, answer)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return failure(request.url.path, error.status_code, str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        faults = [_fault(fault) for fault in error.errors()]
        if is_openai_path(request.url.path):
            return openai_validation(faults)
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return problem(400, "the body is not JSON", errors=faults)
        detail = "; ".join(f"{fault['field']}: {fault['why']}" for fault in faults)
        first = faults[0] if faults else {}
        return problem(422, detail, field=first.get("field"), accepted=first.get("accepted"), errors=faults)

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.url.path)
        if is_openai_path(request.url.path):
            return error_response(error)
        return problem(500, "an error of the platform's own; its log says more")


def problem_of(error: Exception) -> JSONResponse:
    """Return the problem details of one of our errors."""
    if isinstance(error, Problem):
        return problem(error.status, error.detail, **error.more)
    if isinstance(error, RequestError):
        accepted = ", ".join(error.accepted) if error.accepted is not None else None
        return problem(error.status, error.message, error.headers, field=error.param, accepted=accepted)
    if isinstance(error, RecipeError):
        return problem(422, str(error), field=f"params.{error.field}", accepted=str(error.accepted))
    if isinstance(error, PlanError):
        detail = f"{error.message}: {error.hint}"
        return problem(422, detail, field="params", accepted="a run that fits this machine")
    if isinstance(error, PathRefused):
        return problem(507 if error.full else 422, str(error), accepted="a path that can be written to")
    members = {name: getattr(error, name, None) for name in ("noun", "ref", "field", "accepted")}
    known = status_of(error)
    if known is not None:
        members["field"] = members["field"] or known.field
        return problem(known.status, str(error), retry_after(error, known), **members)
    detail = ". ".join(part for part in (str(error), getattr(error, "hint", "")) if part)
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return problem(status, detail or type(error).__name__, **members)


def openai_error(error: Exception) -> Response:
    """Return one of our errors in OpenAI's form."""
    if isinstance(error, RequestError) or status_of(error) is not None:
        return error_response(error)
    details = json.loads(bytes(problem_of(error).body))
    code = details["title"].lower().replace(" ", "_")
    return error_response(
        RequestError(details["detail"], details.get("field"), status=details["status"], code=code)
    )


def openai_validation(faults: list[dict[str, Any]]) -> Response:
    """Return the first of a request's faults in OpenAI's form."""
    first = faults[0]
    accepted = f"; accepted: {first['accepted']}" if first.get("accepted") else ""
    code = "unknown_parameter" if first["why"].startswith("Extra inputs") else "invalid_value"
    return error_response(
        RequestError(f"`{first['field']}`: {first['why']}{accepted}.", first["field"], code=code)
    )


def problem_details(request: Request, error: Exception) -> dict[str, Any]:
    """Build RFC 9457 details for an error raised after the stream has started, as its last line."""
    handlers = request.app.exception_handlers
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    details: dict[str, Any] = json.loads(handler(request, error).body)
    return details


def _fault(fault: Any) -> dict[str, Any]:
    location = [str(part) for part in fault["loc"] if part not in ("body", "query", "path")]
    context = fault.get("ctx") or {}
    accepted = context.get("expected")
    if accepted is None:
        names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        bounds = [f"{names[name]} {context[name]}" for name in names if name in context]
        accepted = " and ".join(bounds) or None
    row = {"field": ".".join(location) or "body", "why": fault["msg"]}
    return row | ({"accepted": str(accepted)} if accepted is not None else {})
