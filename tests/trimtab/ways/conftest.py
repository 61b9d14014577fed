"""A platform in process with held-out pairs, whose jobs ask a stub that answers as a system prompt says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from store.datasets import snapshots
from store.rollout import releases
from store.training_data import pairs
from tests.support.stub_releases import WORDS, PromptedPlatform, Release
from trimtab import ui_mount
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform
from trimtab.ways.comparison import Comparison
from trimtab.ways.prompt_search import PromptSearch

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"
LONG_S = 60


def said(sentences: int, chosen: float = -2.0) -> Release:
    def answer(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
        return " ".join(f"The {rng.choice(WORDS)} is here." for _ in range(sentences)), "stop"

    return Release(answer, chosen=chosen)


def behave(system: str) -> Release:
    """Follow what a system prompt says of the number of sentences, and what its examples show."""
    if "two sentences" in system:
        return said(2, chosen=-1.5)
    return said(3, chosen=-1.7) if "Assistant:" in system else said(5)


class ServedPlatform(PromptedPlatform):
    """Puts a release's own system prompt before conversations without one, as the gateway does."""

    def __init__(self, behave: Callable[[str], Release], platform: Platform) -> None:
        super().__init__(behave)
        self.platform = platform
        self.fail_after: int | None = None
        self.asked = 0

    def release_for(self, body: dict[str, Any]) -> Release:
        self.asked += 1
        if self.fail_after is not None and self.asked > self.fail_after:
            raise RuntimeError("the platform is killed")
        own = {release.ref: release for release in releases.list_all(self.platform.db)}
        prompt = own[body["model"]].system_prompt if body["model"] in own else None
        if body["messages"][0]["role"] != "system" and prompt:
            body["messages"] = [{"role": "system", "content": prompt}, *body["messages"]]
        return super().release_for(body)


@dataclass
class Running:
    """The platform, its API, and the stub that answers."""

    platform: Platform
    client: TestClient
    stub: ServedPlatform

    def ended(self, asked: Any) -> dict[str, Any]:
        """The job that a request asked for, once it has ended."""
        assert asked.status_code == 202, asked.text
        return self.wait(asked.json()["id"])

    def wait(self, job: str) -> dict[str, Any]:
        until = time.monotonic() + LONG_S
        while (found := self.client.get(f"/api/jobs/{job}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.02)
        return dict(found)


def built(
    data: Path, monkeypatch: pytest.MonkeyPatch, with_snapshot: bool = True, url: str = URL
) -> tuple[Platform, ServedPlatform]:
    """The platform before it runs, and the stub that its jobs ask."""
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=data, engines=engines), url)
    if with_snapshot:
        rows = [
            {"prompt": f"What about {WORDS[n % 28]} {n}?", "chosen": f"yes {n}", "rejected": f"no, not {n}"}
            for n in range(60)
        ]
        pairs.import_rows(platform.db, rows, "file.jsonl")
        snapshots.build(platform.db, platform.paths.snapshots, "assistant", "dpo", 0.4, near_duplicates=None)
    stub = ServedPlatform(behave, platform)
    for kind, work in list(platform.jobs.kinds.items()):
        if isinstance(work, PromptSearch | Comparison):
            platform.jobs.kinds[kind] = replace(work, chat_api=stub.api)  # type: ignore[index]

    async def ready(base: str) -> None:
        """An engine that serves."""

    async def reconcile() -> None:
        """No engine to load anything on."""

    monkeypatch.setattr(platform.serving, "wait_ready", ready)
    monkeypatch.setattr(platform.serving.reconciler, "reconcile", reconcile)
    return platform, stub


@contextmanager
def opened(data: Path, monkeypatch: pytest.MonkeyPatch, with_snapshot: bool = True) -> Iterator[Running]:
    """The platform, running in process."""
    platform, stub = built(data, monkeypatch, with_snapshot)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield Running(platform, client, stub)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with opened(tmp_path / "data", monkeypatch) as found:
        yield found
