"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from trimtab_client.resources.admin import Admin
from trimtab_client.resources.chat import Chat
from trimtab_client.resources.data import Data
from trimtab_client.resources.jobs import Jobs
from trimtab_client.resources.preferences import Preferences
from trimtab_client.resources.rollout import Rollout
from trimtab_client.resources.runs import Runs
from trimtab_client.transport import Transport
from trimtab_client.types import WhoAmI
from trimtab_client.values import Json, Rows


class AsyncClient:
    """Client of one platform at `url`; an async context manager, or close it with `aclose`.

    `key` is sent as a bearer token; `headers` go with every request. `timeout` is in seconds and bounds the silence
    between two reads, not a whole stream. `transport` replaces the connections, for tests or a shared pool. Results
    are parsed JSON as the platform sent it; every failure is an `ApiError`, and a platform that cannot be reached
    raises `PlatformUnreachable`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = Transport(url, key, headers, timeout, transport)
        self.url = self._http.url
        self.chat = Chat(self._http)
        self.preferences = Preferences(self._http)
        self.data = Data(self._http)
        self.runs = Runs(self._http)
        self.rollout = Rollout(self._http)
        self.jobs = Jobs(self._http)
        self.admin = Admin(self._http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Send any request and return its parsed JSON (None for an empty answer); raises `ApiError`."""
        return await self._http.request(method, path, body, params, headers)

    async def health(self) -> Json:
        """GET /healthz: whether the platform answers."""
        return await self._http.get("/healthz")

    async def ready(self) -> Json:
        """GET /readyz; raises `ApiError` (503) until every engine serves."""
        return await self._http.get("/readyz")

    async def status(self) -> Json:
        """GET /api/status: engines, deployments, counts, schedule."""
        return await self._http.get("/api/status")

    async def whoami(self) -> WhoAmI:
        """GET /api/whoami: name and roles of the caller."""
        who: WhoAmI = await self._http.get("/api/whoami")
        return who

    async def models(self) -> Rows:
        """GET /v1/models: the names that `model` accepts."""
        return list((await self._http.get("/v1/models"))["data"])
