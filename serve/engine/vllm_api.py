"""vLLM's HTTP API as the platform uses it: control requests, adapters, a probe, counters, and raw chat requests.

Knows nothing of the server's process. Requests that wait for computing have no timeout of their own: on a busy machine
they take minutes, and the supervisor (`serve.engine.engine`) ends them with `disconnect` when the engine is dead.
"""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from serve.engine.stream_client import Connection, HttpStream, StreamBroken
from serve.errors import AdapterNotLoaded, EngineFailed

PROGRESS = re.compile(
    r"^(vllm:(?:iteration_tokens_total_(?:count|sum)|prompt_tokens_total|generation_tokens_total"
    r"|num_preemptions_total|prefix_cache_queries_total|kv_cache_usage_perc|num_requests_(?:running|waiting))"
    r"(?:\{.*\})? \S+)$",
    re.MULTILINE,
)
"""Samples of /metrics that the engine core feeds. The API server alone moves none of them, as it does the count of ended
requests whenever a client leaves."""
WAITING = re.compile(r"^vllm:num_requests_waiting\{.*\} (\S+)$", re.MULTILINE)


class VllmApi:
    """A vLLM server at `url` that serves `base`; errors name it `name`.

    `loaded` are the adapters known to be registered; `queue` those requests that waited for a place in the batch when
    `read_queue` last asked.
    """

    def __init__(self, name: str, base: str, url: str, key: str) -> None:
        self._name, self._base, self._key = name, base, key
        self.url = url
        self.loaded: set[str] = set()
        self.queue: int | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stream: HttpStream | None = None
        self._load_lock = asyncio.Lock()

    def connect(self) -> None:
        """Make the clients for `url`. Within an event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            headers={"Authorization": f"Bearer {self._key}"},
        )
        self._stream = HttpStream(self.url, {"authorization": f"Bearer {self._key}"})

    async def disconnect(self) -> None:
        """Close the clients; control requests under way raise `EngineFailed`."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(self, method: str, path: str, json: Any = None, timeout: float | None = 60) -> Any:
        """Send one control request and return its parsed JSON (text where it is none).

        Raises `EngineFailed` with the server's message and status, 0 when there was no answer in `timeout`
        seconds; None waits for as long as the engine lives.
        """
        if self._session is None:
            raise EngineFailed(self._name, "not started")
        try:
            async with self._session.request(
                method,
                self.url + path,
                json=json,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=5),
            ) as response:
                data = await response.read()
        except TimeoutError as error:
            raise EngineFailed(self._name, f"no answer to {path} in {timeout or 5:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineFailed(self._name, f"no answer to {path} ({type(error).__name__})") from error
        try:
            value = orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            value = data.decode(errors="replace")
        if response.status >= 400:
            raise EngineFailed(self._name, error_message(value, response.status), response.status)
        return value

    # ---- signs of life

    async def probe(self, timeout: float | None) -> None:
        """Generate one token; raises `EngineFailed` (status 200) unless its log-probability is a finite number."""
        body = {"model": self._base, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "logprobs": 1}
        answer = await self.request("POST", "/v1/completions", body | {"ignore_eos": True}, timeout=timeout)
        try:
            logprob = answer["choices"][0]["logprobs"]["token_logprobs"][0]
            sound = isinstance(logprob, float | int) and math.isfinite(logprob)
        except (KeyError, IndexError, TypeError):
            sound = False
        if not sound:
            raise EngineFailed(self._name, "a probe did not generate a token", 200)

    async def progress(self, timeout: float) -> tuple[str, ...]:
        """Return samples that change with each step of the engine core, empty when it does not say in time."""
        try:
            return tuple(PROGRESS.findall(str(await self.request("GET", "/metrics", timeout=timeout))))
        except EngineFailed:
            return ()

    async def read_queue(self) -> None:
        """Ask how many requests wait for a place in the batch; `queue` is None when the engine does not say."""
        self.queue = None
        try:
            found = WAITING.findall(str(await self.request("GET", "/metrics", timeout=2)))
        except EngineFailed:
            return
        self.queue = sum(int(float(value)) for value in found) if found else None

    # ---- adapters

    async def adapters(self) -> dict[str, str]:
        """Return the registered adapters, name to directory, as the server lists them."""
        listing = await self.request("GET", "/v1/models")
        found = {card["id"]: card["root"] for card in listing["data"] if card.get("parent")}
        self.loaded = set(found)
        return found

    async def load_adapter(self, name: str, path: Path) -> None:
        """Register an adapter, never in place; one that is registered already is left as it is.

        Raises `AdapterNotLoaded` with the server's reason.
        """
        body = {"lora_name": name, "lora_path": str(path)}
        async with self._load_lock:
            try:
                await self.request("POST", "/v1/load_lora_adapter", body, timeout=None)
            except EngineFailed as error:
                if error.status != 400 or name not in await self.adapters():
                    raise AdapterNotLoaded(self._name, error.message, error.status) from error
            self.loaded.add(name)

    async def unload_adapter(self, name: str) -> None:
        """Take an adapter off the server's list; one that is not there is no error. Only while it is paused."""
        async with self._load_lock:
            try:
                await self.request("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout=None)
            except EngineFailed as error:
                if error.status != 404:
                    raise
            self.loaded.discard(name)

    # ---- chat requests

    async def post(self, path: str, body: bytes) -> Connection:
        """POST raw JSON and return the answer as it begins; hand it to `release`, early to abort the generation.

        Raises `EngineFailed` (status 0) when the server cannot be reached.
        """
        if self._stream is None:
            raise EngineFailed(self._name, "not started")
        try:
            return await self._stream.post(path, body)
        except StreamBroken as error:
            raise EngineFailed(self._name, str(error)) from error

    def release(self, answer: Connection) -> None:
        """Give an answer back: read to its end its connection is kept, else the generation is aborted."""
        if self._stream is None:
            answer.abort()
        else:
            self._stream.release(answer)


def error_message(value: Any, status: int) -> str:
    """Return the message of an error body of vLLM, of FastAPI or of neither."""
    if isinstance(value, dict):
        error = value.get("error", value)
        if isinstance(error, dict):
            return str(error.get("message") or error.get("detail") or f"HTTP {status}")
        return str(error)
    return str(value or f"HTTP {status}")[:500]
