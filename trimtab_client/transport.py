"""HTTP requests of the client: JSON in and out, streams, and every failure as an `ApiError`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from trimtab_client.errors import PlatformUnreachable, api_error
from trimtab_client.values import Json

CONNECT_TIMEOUT_S = 5.0


def path(*parts: str) -> str:
    """Join parts to a path, each quoted."""
    return "/" + "/".join(quote(part, safe="@-._~") for part in parts)


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


class Transport:
    """Connections to one platform; `AsyncClient` describes the arguments."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={**(headers or {}), **authorization},
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            trust_env=False,
            # reading the certificates takes 0.1 s; http has no use for them
            verify=self.url.startswith("https:"),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )

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
        """Send one request and return its parsed JSON (None for an empty answer); raises `ApiError`."""
        try:
            response = await self._http.request(
                method, path, json=body, params=given(**(params or {})) or None, headers=dict(headers or {})
            )
        except httpx.TransportError as error:
            raise self.unreachable(error) from error
        if response.is_error:
            raise api_error(response)
        if response.status_code == 204 or not response.content:
            return None
        if "json" in response.headers.get("content-type", ""):
            return response.json()
        return response.text

    async def get(self, path: str, **params: Any) -> Json:
        """GET; parameters that are None are left out."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, body: Json = None) -> Json:
        """POST a JSON body, an empty object by default."""
        return await self.request("POST", path, body={} if body is None else body)

    async def put(self, path: str, body: Json) -> Json:
        """PUT a JSON body."""
        return await self.request("PUT", path, body=body)

    async def patch(self, path: str, body: Json) -> Json:
        """PATCH with a JSON body."""
        return await self.request("PATCH", path, body=body)

    async def delete(self, path: str, **params: Any) -> Json:
        """DELETE; parameters that are None are left out."""
        return await self.request("DELETE", path, params=params)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: Json = None,
        content: AsyncIterable[bytes] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Open a streamed response; raises `ApiError`, also where the connection breaks within it."""
        try:
            async with self._http.stream(
                method, path, json=body, content=content, params=params, headers=headers
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise api_error(response)
                yield response
        except httpx.TransportError as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> PlatformUnreachable:
        """Return the error of a platform that does not answer."""
        why = str(error) or type(error).__name__
        return PlatformUnreachable(0, "Platform unreachable", f"No answer from {self.url}: {why}")
