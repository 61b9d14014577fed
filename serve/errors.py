"""The errors of serving.

ServeError
├── ProcessFailed            a child process could not be started
├── EngineFailed             an engine answered a control request with a failure, or not at all
│   └── AdapterNotLoaded     an engine refused to load an adapter
├── EngineUnavailable        no engine of this base can take a request now; carries retry_after_s
├── AdapterRefused           an adapter directory breaks a rule; carries why
├── ParityFailed             an adapter is served with other numbers than it was trained with
├── DrainTimeout             requests of an adapter were still running at the drain timeout
└── RequestError             a client's request is answered with an error: status, code, message, param
    ├── UnknownModel         404
    ├── Unauthenticated      401
    ├── Forbidden            403
    └── TooManyRequests      429, with Retry-After
        └── InsufficientQuota    429 until the next day or month
"""

from __future__ import annotations

from collections.abc import Sequence


class ServeError(Exception):
    """Root of the errors of this package."""


class ProcessFailed(ServeError):
    """A child process could not be started; the text names the program and the system's reason."""


class EngineFailed(ServeError):
    """An engine failed a control request; `status` is its HTTP status, 0 when it did not answer."""

    def __init__(self, engine: str, message: str, status: int = 0) -> None:
        super().__init__(f"engine {engine}: {message}")
        self.engine = engine
        self.status = status
        self.message = message


class AdapterNotLoaded(EngineFailed):
    """An engine refused to load an adapter."""


class EngineUnavailable(ServeError):
    """No engine of this base can take a request now; try again after `retry_after_s` seconds."""

    def __init__(self, base: str, why: str, retry_after_s: int = 5) -> None:
        super().__init__(f"No engine serves {base} right now: {why}")
        self.base = base
        self.retry_after_s = retry_after_s


class AdapterRefused(ServeError):
    """An adapter directory breaks a rule of serving; `why` says which, in one sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class ParityFailed(ServeError):
    """The served log-probabilities of an adapter differ from the trained ones by more than is allowed."""


class DrainTimeout(ServeError):
    """Requests of an adapter were still running when the time allowed for draining had passed."""


class RequestError(ServeError):
    """A request that is answered with an error in OpenAI's form.

    `status` is the HTTP status, `code` a stable short name, `param` the field at fault, `headers` go with the
    answer, and `accepted` lists what the field accepts.
    """

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        status: int | None = None,
        code: str | None = None,
        accepted: Sequence[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status or self.status
        self.code = code or self.code
        self.accepted = list(accepted) if accepted is not None else None
        self.headers = headers or {}


class UnknownModel(RequestError):
    """The `model` of a request names no deployment, release or base model."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str, accepted: Sequence[str]) -> None:
        names = ", ".join(accepted) or "none yet"
        super().__init__(f"Unknown model {model!r}. Accepted: {names}.", "model", accepted=accepted)
        self.model = model


class Unauthenticated(RequestError):
    """Nobody is known by what the request carries."""

    status = 401
    code = "unauthenticated"
    kind = "authentication_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(RequestError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    kind = "permission_error"


class TooManyRequests(RequestError):
    """A limit is reached; `Retry-After` says when to come back."""

    status = 429
    code = "rate_limit_exceeded"
    kind = "rate_limit_error"

    def __init__(self, message: str, retry_after_s: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={"Retry-After": str(max(1, retry_after_s))})


class InsufficientQuota(TooManyRequests):
    """A budget of a calendar day or month is used up; `Retry-After` leads to the next. OpenAI's code and type."""

    code = "insufficient_quota"
    kind = "insufficient_quota"
