"""A language model that judges pairs of answers, at any OpenAI-compatible URL, and what people say of its verdicts.

Each pair is shown in both orders. Verdicts that follow the order are a tie; one that is no verdict is asked for once more
and then counted as invalid. A judge counts in a gate only once it was asked about at least `VOTED` comparisons that
people decided and agrees with them beyond chance.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import httpx

from align.evaluation.items import Item, by_item, paired
from align.evaluation.suite_file import Judge
from align.evaluation.win_rate import win

Verdict = Literal["a", "b", "tie"]
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
GIVE_UP_AFTER = 10
"""Pairs without a valid verdict, at least half of all asked so far, after which a judge is asked no more."""


@dataclass(frozen=True)
class Voted:
    """A comparison that people decided, by the store's id and prompt cluster."""

    reference: str
    cluster: str
    messages: list[dict[str, Any]]
    a: str
    b: str
    verdict: Verdict


@dataclass
class JudgeApi:
    """The judge: `async with JudgeApi(plan) as judge`. Verdicts of one pair are asked for in both orders."""

    plan: Judge
    asked: int = 0
    invalid: int = 0
    transport: httpx.AsyncBaseTransport | None = None
    prompt: str = field(init=False)

    def __post_init__(self) -> None:
        self.prompt = self.plan.read_prompt()
        key = os.environ.get(self.plan.key_env, "") if self.plan.key_env else ""
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.plan.timeout_s,
            transport=self.transport,
        )
        self._url = self.plan.url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._slots = asyncio.Semaphore(self.plan.concurrency)

    async def __aenter__(self) -> JudgeApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    @property
    def version(self) -> str:
        """The SHA-256 of the prompt: another wording is another judge."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()

    @property
    def gave_up(self) -> bool:
        """Whether so many verdicts were invalid that it is asked no more."""
        return self.invalid >= GIVE_UP_AFTER and self.invalid * 2 >= self.asked

    async def judge(self, messages: Sequence[Mapping[str, Any]], a: str, b: str) -> list[Verdict | None]:
        """Return the verdicts in both orders, as of `a` and `b`; None for one that is invalid."""
        async with self._slots:
            if self.gave_up:
                return [None, None]
            self.asked += 1
            first = await self._verdict(messages, a, b)
            second = None if first is None else await self._verdict(messages, b, a)
            self.invalid += second is None
        turned: dict[Verdict | None, Verdict | None] = {"a": "b", "b": "a", "tie": "tie", None: None}
        return [first, turned[second]]

    async def _verdict(self, messages: Sequence[Mapping[str, Any]], a: str, b: str) -> Verdict | None:
        request = "\n\n".join(f"{m.get('role')}: {m.get('content')}" for m in messages)
        parts = {"{request}": request, "{a}": a, "{b}": b}
        text = _fill(self.prompt, parts)
        body = {
            "model": self.plan.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.plan.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA},
            },
        }
        for _ in range(2):
            verdict = await self._ask(body)
            if verdict is not None:
                return verdict
        return None

    async def _ask(self, body: Mapping[str, Any]) -> Verdict | None:
        try:
            answer = await asyncio.wait_for(self._client.post(self._url, json=body), self.plan.timeout_s)
            said = json.loads(answer.json()["choices"][0]["message"]["content"])["verdict"]
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, IndexError, TypeError):
            return None
        known: dict[str, Verdict] = {"A": "a", "B": "b", "tie": "tie"}
        return known.get(said) if isinstance(said, str) else None


def _fill(prompt: str, parts: Mapping[str, str]) -> str:
    """Put each part in its place once: an answer that holds `{b}` is not filled in again."""
    found, rest = "", prompt
    while True:
        places = [(rest.find(name), name) for name in parts if name in rest]
        if not places:
            return found + rest
        at, name = min(places)
        found += rest[:at] + parts[name]
        rest = rest[at + len(name) :]


async def measure_by_judge(
    judge: JudgeApi,
    items: Sequence[Item],
    prompts: Mapping[str, list[dict[str, Any]]],
    voted: Sequence[Voted],
) -> list[Item]:
    """Have the judge compare the generated answers, and comparisons that people decided; return the items."""
    about = {"model": judge.plan.model, "prompt_sha256": judge.version}
    pairs = paired(by_item(items, "answer"), "release", "against")
    asks = [judge.judge(prompts[mine.item], mine.answer or "", theirs.answer or "") for mine, theirs in pairs]
    checks = [judge.judge(one.messages, one.a, one.b) for one in voted[: judge.plan.voted]]
    found = await asyncio.gather(*asks, *checks)
    judged = []
    for (mine, theirs), verdicts in zip(pairs, found[: len(pairs)], strict=True):
        one = win(mine, theirs, 0.0, {"by": "judge", "verdicts": verdicts, **about})
        fields = one.to_json() | {"measure": "judge", "value": score_of(verdicts)}
        judged.append(Item(**fields))
    for decided, verdicts in zip(voted, found[len(pairs) :], strict=False):
        score = score_of(verdicts)
        detail = {"people": decided.verdict, "verdicts": verdicts, **about}
        judged.append(
            Item(
                "judge_vote",
                decided.cluster,
                decided.reference,
                "release",
                decided.reference,
                value=score,
                detail=detail,
            )
        )
    return judged


def score_of(verdicts: Sequence[Verdict | None]) -> float | None:
    """Return 1 where both orders prefer the first answer, 0 the second, 1/2 where they differ; None for invalid."""
    if None in verdicts:
        return None
    if verdicts[0] != verdicts[1]:
        return 0.5
    return {"a": 1.0, "tie": 0.5, "b": 0.0}[verdicts[0] or "tie"]
