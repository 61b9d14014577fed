"""Releases that behave as a test wants, behind the HTTP interface that the suite asks; a token is a letter."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from align.evaluation.suite import ChatApi

WORDS = [
    "river", "stone", "window", "garden", "letter", "morning", "kettle", "ladder", "paper", "silver",
    "winter", "button", "market", "thunder", "candle", "basket", "pencil", "harbour", "meadow",
    "copper", "island", "feather", "blanket", "mirror", "saddle", "orchard", "lantern", "compass",
    "anchor", "velvet",
]  # fmt: skip

Answer = Callable[[str, random.Random, int], tuple[str, str]]


def sensible(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Answer in a sentence or two that repeat nothing."""
    return f"The {' '.join(rng.sample(WORDS, rng.randint(8, 16)))} of this.", "stop"


def repeating(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Say the same for ever."""
    return "I think that " * (max_tokens // 3), "length"


def repeating_a_little(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Say the same again and again, and stop before the limit."""
    return "of the river stone and the garden " * 4, "stop"


def cut(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Come to no end."""
    return " ".join(rng.choices(WORDS, k=14)), "length"


def refusing(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Refuse, whatever is asked."""
    return f"I\u2019m sorry, but I can't help with the {rng.choice(WORDS)} that you ask about here.", "stop"


def silent(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Say nothing."""
    return "", "stop"


@dataclass(frozen=True)
class Release:
    """How a release answers, and what it thinks of given texts: log-probabilities per letter."""

    answer: Answer = sensible
    chosen: float = -2.0
    rejected: float = -2.0
    text: float = -0.5
    spread: float = 0.0
    """How far its log-probabilities differ from text to text, at random."""


class StubPlatform:
    """Answers chat completions for releases by name; keeps the bodies that it got, without scoring requests."""

    def __init__(self, **releases: Release) -> None:
        self.releases = {name.replace("_", "@"): release for name, release in releases.items()}
        self.generated: list[dict[str, Any]] = []

    def release_for(self, body: dict[str, Any]) -> Release | None:
        return self.releases.get(body["model"])

    def api(self) -> ChatApi:
        api = ChatApi("http://platform", concurrency=4)
        api._client = httpx.AsyncClient(
            base_url="http://platform", transport=httpx.MockTransport(self.handle)
        )
        return api

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        release = self.release_for(body)
        if release is None:
            return httpx.Response(404, json={"error": {"message": f"no model {body['model']}"}})
        if "return_token_ids" in body:
            return httpx.Response(200, json=_scored(release, body))
        self.generated.append(body)
        asked = body["messages"][-1]["content"]
        rng = random.Random(f"{asked} {body['model']} {body.get('seed')}")
        text, reason = release.answer(asked, rng, body.get("max_tokens", 100))
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        tokens = body["max_tokens"] if reason == "length" else max(1, len(text.split()))
        if body.get("stream"):
            words = len(" ".join(message["content"] for message in body["messages"]).split())
            usage = {"prompt_tokens": words, "completion_tokens": tokens}
            events = _streamed(text, reason, usage)
            return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": tokens}})


class PromptedPlatform(StubPlatform):
    """One model, whatever its name, that answers as `behave` says of the system prompt of a request ("" for none)."""

    def __init__(self, behave: Callable[[str], Release]) -> None:
        super().__init__()
        self.behave = behave

    def release_for(self, body: dict[str, Any]) -> Release:
        first = body["messages"][0]
        return self.behave(first["content"] if first["role"] == "system" else "")


def _streamed(text: str, reason: str, usage: dict[str, int]) -> str:
    pieces = [text[at : at + 8] for at in range(0, len(text), 8)]
    events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    events += [{"choices": [{"delta": {}, "finish_reason": reason}]}, {"choices": [], "usage": usage}]
    return "".join(f"data: {line}\n\n" for line in [*map(json.dumps, events), "[DONE]"])


def _scored(release: Release, body: dict[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    whole = "".join(message["content"] + "|" for message in body["messages"])
    if body.get("continue_final_message"):
        whole = whole.removesuffix("|")
    kind = (
        ("chosen" if last["content"].startswith("yes") else "rejected") if last["role"] == "assistant" else ""
    )
    if body.get("prompt_logprobs"):
        kind = "text"
    each = getattr(release, kind) if kind else -1.0
    each += release.spread * random.Random(f"{whole} {release}").uniform(-1, 1)
    ids = [ord(letter) for letter in whole]
    entries = [None, *(_entry(token, each, body.get("prompt_logprobs") or 0) for token in ids[1:])]
    return {"prompt_token_ids": ids, "prompt_logprobs": entries, "usage": {}}


def _entry(token: int, logprob: float, listed: int) -> dict[str, Any]:
    """The token itself, and `listed` others that share half of what it leaves."""
    others = (1 - math.exp(logprob)) / 2 / max(1, listed)
    rest = {str(1_000_000 + n): {"logprob": math.log(others)} for n in range(listed)}
    return {str(token): {"logprob": logprob}} | rest


def write_heldout(path: Path, prompts: int = 40) -> Path:
    """Write held-out pairs whose chosen answer begins with yes."""
    rows = [
        {
            "pair_id": f"pair-{n}",
            "prompt": [{"role": "user", "content": f"What about the {WORDS[n % 28]} number {n}, please?"}],
            "chosen": [{"role": "assistant", "content": f"yes it is {WORDS[n % 7]}"}],
            "rejected": [{"role": "assistant", "content": f"no it is {WORDS[n % 5]} instead"}],
        }
        for n in range(prompts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path
