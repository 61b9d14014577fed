"""Several answers of a release to a prompt, through the served endpoint, at the release's own sampling."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.evaluation.answering.chat_api import ChatApi, choice_of, content_of
from align.pair_making.choice import Answer

MAX_TOKENS = 512
"""Max tokens of an answer, unless the release or the request has a lower limit."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are sampled; None leaves the temperature to the release."""

    max_tokens: int = MAX_TOKENS
    temperature: float | None = None

    def body(self, model: str, messages: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """Return the request of one answer."""
        body = {"model": model, "messages": list(messages), "max_tokens": self.max_tokens, "seed": seed}
        return body if self.temperature is None else body | {"temperature": self.temperature}


async def sample(
    api: ChatApi, model: str, messages: Sequence[Mapping[str, Any]], n: int, sampling: Sampling, seed: int = 1
) -> list[Answer]:
    """Return `n` answers, with the seeds from `seed` on. Raises `RowRefused`, `EvaluationError`."""
    bodies = [sampling.body(model, messages, seed + number) for number in range(n)]
    return [_read(answer) for answer, _ in await asyncio.gather(*(api.chat(body) for body in bodies))]


def _read(answer: Mapping[str, Any]) -> Answer:
    """Return what a chat completion says; a call of a tool has no text, and counts as cut."""
    tokens = (answer.get("usage") or {}).get("completion_tokens")
    return Answer(content_of(answer), choice_of(answer).get("finish_reason"), tokens)
