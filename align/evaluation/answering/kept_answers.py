"""A chat API and a judge that keep their answers, so that work that was cut short goes on where it was.

A request is identified by the hash of its body: the same request is not asked twice, neither in one run nor after a restart.
So a body must hold its own `seed` where two answers to one prompt are wanted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from align.evaluation.answering.chat_api import ChatApi, RowRefused
from align.evaluation.judging.judge import JudgeApi, Verdict
from align.evaluation.suite_file import Judge

Keep = Callable[[str, dict[str, Any], Mapping[str, Any]], Awaitable[None]]
"""Keeps what a request gave: its name, the value, and the request's body."""


class _Once:
    """What requests gave, by the hash of each; one that is in flight is waited for."""

    def __init__(self, known: Mapping[str, dict[str, Any]], keep: Keep) -> None:
        self._known, self._keep = dict(known), keep
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(
        self, request: str, body: Mapping[str, Any], ask: Callable[[], Awaitable[tuple[dict[str, Any], bool]]]
    ) -> dict[str, Any]:
        """Return what a request gave, or ask; the answer is kept where `ask` says so."""
        name = hashlib.sha256(request.encode()).hexdigest()
        async with self._asking.setdefault(name, asyncio.Lock()):
            if name in self._known:
                return self._known[name]
            value, is_final = await ask()
            if is_final:
                await self._keep(name, value, body)
                self._known[name] = value
            return value


class KeptAnswers(ChatApi):
    """Answers what is in `known` from there, else asks `api` and gives the answer to `keep`.

    Closing it closes `api`.
    """

    def __init__(self, api: ChatApi, known: Mapping[str, dict[str, Any]], keep: Keep) -> None:
        self._api, self._once = api, _Once(known, keep)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()

    async def chat(self, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Return the kept answer, or ask; a refusal is kept as well."""

        async def ask() -> dict[str, Any]:
            answer, seconds = await self._api.chat(body)
            return {"answer": answer, "seconds": seconds}

        found = await self._answer("chat", body, ask)
        return found["answer"], found["seconds"]

    async def stream(self, body: dict[str, Any]) -> tuple[dict[str, Any], float, float | None]:
        """Return the kept answer with its times, or ask."""

        async def ask() -> dict[str, Any]:
            answer, seconds, first = await self._api.stream(body)
            return {"answer": answer, "seconds": seconds, "first": first}

        found = await self._answer("stream", body, ask)
        return found["answer"], found["seconds"], found["first"]

    async def _answer(
        self, kind: str, body: dict[str, Any], ask: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        async def ask_or_refuse() -> tuple[dict[str, Any], bool]:
            try:
                return await ask(), True
            except RowRefused as refusal:
                return {"refused": str(refusal)}, True

        found = await self._once.get(f"{kind} {json.dumps(body, sort_keys=True)}", body, ask_or_refuse)
        if "refused" in found:
            raise RowRefused(found["refused"])
        return found


class KeptVerdicts(JudgeApi):
    """A judge whose valid verdicts are kept: the same answers to the same request are not judged twice."""

    def __init__(self, plan: Judge, known: Mapping[str, dict[str, Any]], keep: Keep) -> None:
        super().__init__(plan)
        self._once = _Once(known, keep)

    async def judge(self, messages: Sequence[Mapping[str, Any]], a: str, b: str) -> list[Verdict | None]:
        """Return the kept verdicts in both orders, or ask; invalid ones are asked for again after a restart."""
        asked = json.dumps([self.version, self.plan.model, list(messages), a, b], sort_keys=True)
        judge = super().judge

        async def ask() -> tuple[dict[str, Any], bool]:
            verdicts = await judge(messages, a, b)
            return {"verdicts": verdicts}, None not in verdicts

        found = await self._once.get(f"judge {asked}", {"messages": messages}, ask)
        verdicts: list[Verdict | None] = found["verdicts"]
        return verdicts
