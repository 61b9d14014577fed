"""Chat streams without pause against a running platform: what its users see while something else happens."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Answer:
    """One request: when it was sent, the seconds to its first token, the longest gap, and how it ended."""

    sent: float
    first_token: float | None = None
    gaps: list[float] = field(default_factory=list)
    status: int = 0
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether no whole answer came."""
        return bool(self.error) or self.status != 200


class ChatLoad:
    """`streams` clients that each ask one question after the other on a thread of its own; a context manager.

    `url` may be changed while it runs, to that of a platform that was started again.
    """

    def __init__(self, url: str, prompts: Sequence[str], streams: int = 8, max_tokens: int = 64) -> None:
        self.url = url
        self.prompts = prompts
        self.streams = streams
        self.max_tokens = max_tokens
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> ChatLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        async with httpx.AsyncClient(
            base_url=self.url, timeout=120, limits=httpx.Limits(max_connections=None)
        ) as client:
            await asyncio.gather(*(self._client(client, number) for number in range(self.streams)))

    async def _client(self, client: httpx.AsyncClient, number: int) -> None:
        while not self._stop.is_set():
            answer = Answer(time.monotonic())
            prompt = self.prompts[(number + len(self.answers)) % len(self.prompts)]
            body = {
                "model": "assistant", "messages": [{"role": "user", "content": prompt}], "stream": True,
                "max_tokens": self.max_tokens, "store": False,
            }  # fmt: skip
            try:
                await self._ask(client, f"{self.url}/v1/chat/completions", body, answer)
            except httpx.HTTPError as error:
                answer.error = type(error).__name__
            self.answers.append(answer)
            if answer.failed:
                await asyncio.sleep(0.5)

    @staticmethod
    async def _ask(client: httpx.AsyncClient, url: str, body: dict[str, Any], answer: Answer) -> None:
        last = answer.sent
        async with client.stream("POST", url, json=body) as response:
            answer.status = response.status_code
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    answer.error = "error within the stream"
                    continue
                now = time.monotonic()
                if answer.first_token is None:
                    answer.first_token = now - answer.sent
                else:
                    answer.gaps.append(now - last)
                last = now

    def summary(self, begin: float, end: float | None = None) -> dict[str, Any]:
        """Return counts, failures by kind, and milliseconds to the first and between tokens of what was sent then."""
        chosen = [a for a in self.answers if begin <= a.sent <= (end or time.monotonic())]
        failures = Counter(f"{a.status} {a.error}".strip() for a in chosen if a.failed)
        firsts = [a.first_token * 1000 for a in chosen if a.first_token is not None]
        gaps = [gap * 1000 for a in chosen for gap in a.gaps]
        return {
            "answers": len(chosen) - sum(failures.values()),
            "failed": dict(failures),
            "first_token_ms": _spread(firsts),
            "between_tokens_ms": _spread(gaps),
        }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    values = sorted(values)
    return {
        "median": round(statistics.median(values), 1),
        "p99": round(values[min(len(values) - 1, int(0.99 * len(values)))], 1),
        "max": round(values[-1], 1),
    }
