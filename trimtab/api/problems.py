"""Every failure of `/api` as RFC 9457 problem details: `{type, title, status, detail, field?, accepted?, errors?}`.

One table maps our error types to statuses; nothing is decided on the text of a message.
"""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from align.errors import AlignError, RecipeError
from align.recipe.plan import PlanError
from serve.errors import AdapterRefused, EngineUnavailable, Forbidden, RequestError
from serve.gateway.openai_paths import is_openai_path
from serve.gateway.responses import error_response
from store.errors import Conflict, Invalid, NotFound, StoreError
from trimtab.errors import PathRefused

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
    """A problem-details response; `more` are further members (those that are None are left out)."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body |= {name: value for name, value in more.items() if value is not None}
    return ProblemResponse(body, status, headers=headers)


def failure(path: str, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A failure that any path may have, in the form that is spoken there: OpenAI's, or problem details."""
    if not is_openai_path(path):
        return problem(status, detail, headers)
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    kind = Forbidden if status == 403 else RequestError
    return error_response(kind(detail, status=status, code=code, headers=headers))


async def refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request of `/api` that does not reach its route."""
    await _of_request(error)(scope, receive, send)


def _of_request(error: RequestError) -> JSONResponse:
    accepted = ", ".join(error.accepted) if error.accepted is not None else None
    return problem(error.status, error.message, error.headers, field=error.param, accepted=accepted)


def install(app: FastAPI) -> None:
    """Makes `app` answer our errors as problem details."""

    @app.exception_handler(Problem)
    def _known(request: Request, error: Problem) -> JSONResponse:
        return problem(error.status, error.detail, **error.more)

    @app.exception_handler(NotFound)
    def _not_found(request: Request, error: NotFound) -> JSONResponse:
        return problem(404, str(error), noun=error.noun, ref=error.ref)

    @app.exception_handler(Conflict)
    def _conflict(request: Request, error: Conflict) -> JSONResponse:
        return problem(409, str(error))

    @app.exception_handler(Invalid)
    def _invalid(request: Request, error: Invalid) -> JSONResponse:
        return problem(422, str(error), field=error.field, accepted=error.accepted)

    @app.exception_handler(RecipeError)
    def _recipe(request: Request, error: RecipeError) -> JSONResponse:
        return problem(422, str(error), field=f"params.{error.field}", accepted=str(error.accepted))

    @app.exception_handler(PlanError)
    def _plan(request: Request, error: PlanError) -> JSONResponse:
        return problem(
            422, f"{error.message}: {error.hint}", field="params", accepted="a run that fits this machine"
        )

    @app.exception_handler(AlignError)
    def _align(request: Request, error: AlignError) -> JSONResponse:
        return problem(409, ". ".join(part for part in (error.message, error.hint) if part))

    @app.exception_handler(StoreError)
    def _store(request: Request, error: StoreError) -> JSONResponse:
        return problem(503, str(error))

    @app.exception_handler(PathRefused)
    def _path(request: Request, error: PathRefused) -> JSONResponse:
        return problem(507 if error.full else 422, str(error), accepted="a path that can be written to")

    @app.exception_handler(RequestError)
    def _request(request: Request, error: RequestError) -> JSONResponse:
        return _of_request(error)

    @app.exception_handler(AdapterRefused)
    def _refused(request: Request, error: AdapterRefused) -> JSONResponse:
        return problem(422, str(error), field="adapter")

    @app.exception_handler(EngineUnavailable)
    def _engine(request: Request, error: EngineUnavailable) -> JSONResponse:
        return problem(503, str(error), headers={"Retry-After": str(error.retry_after_s)})

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return failure(request.url.path, error.status_code, str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [_fault(fault) for fault in error.errors()]
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return problem(400, "the body is not JSON", errors=faults)
        detail = "; ".join(f"{fault['field']}: {fault['why']}" for fault in faults)
        first = faults[0] if faults else {}
        return problem(422, detail, field=first.get("field"), accepted=first.get("accepted"), errors=faults)

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.url.path)
        return failure(request.url.path, 500, "an error of the platform's own; its log says more")


def told(request: Request, error: Exception) -> dict[str, Any]:
    """The problem details of an error that comes when an answer has begun already, to be its last line."""
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
