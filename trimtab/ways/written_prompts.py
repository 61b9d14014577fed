"""Who writes prompts: a model of this platform, or one at an OpenAI-compatible URL."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from align.evaluation.answering.chat_api import ChatApi

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Writer:
    """A model by name, at `url` if it is not one of this platform; its key is in the environment variable `key_env`."""

    model: str
    url: str | None = None
    key_env: str | None = None
    count: int = 6


@asynccontextmanager
async def writer_of(writer: Writer, own: ChatApi) -> AsyncIterator[tuple[ChatApi, str]]:
    """Open the writer's endpoint; `own` is that of this platform."""
    if writer.url is None:
        yield own, writer.model
        return
    key = os.environ.get(writer.key_env) if writer.key_env else None
    async with ChatApi(writer.url, key=key, timeout_s=TIMEOUT_S) as api:
        yield api, writer.model
