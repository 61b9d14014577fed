"""Imports by the API: long ones hold nobody up, tell how far they are, and end when their caller goes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from store.errors import Invalid
from store.training_data import batch_import, import_file, pairs
from store.training_data.import_file import Progress
from tests.support.asgi import serving
from trimtab import ui_mount
from trimtab.api.training_data import imports
from trimtab.app import build_app, build_platform
from trimtab.background import IMPORT_THREADS
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.lifespan import running
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
LINES = {"Accept": "application/x-ndjson"}
LONG_S = 30
"""How long a test waits for what takes moments, seconds."""
MANY = 40
"""Requests at once: more than asyncio's own threads on any machine."""


@pytest.fixture(autouse=True)
def _no_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    return Settings(data=tmp_path / "data", engines=engines)


@pytest.fixture
def platform(settings: Settings) -> Platform:
    return build_platform(settings, URL)


@asynccontextmanager
async def asking(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the platform on a real socket, where a connection can be closed."""
    async with running(platform), serving(build_app(platform)) as url:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=LONG_S) as client:
            yield client


def rows(count: int) -> bytes:
    made = ({"prompt": f"Question {n}?", "chosen": "yes", "rejected": "no"} for n in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in made)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, LONG_S)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when an upload has been removed."""
    event, remove = threading.Event(), imports._Import._remove

    def watched(self: Any) -> None:
        remove(self)
        event.set()

    monkeypatch.setattr(imports._Import, "_remove", watched)
    return event


@pytest.fixture
def noticed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the platform has seen that a caller went away."""
    event, stop = threading.Event(), imports._Import._stop

    def watched(self: Any, work: Any) -> None:
        stop(self, work)
        event.set()

    monkeypatch.setattr(imports._Import, "_stop", watched)
    return event


@dataclass
class Held:
    """Imports that have begun, a permit each, and what lets them go on (to fail)."""

    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Event = field(default_factory=threading.Event)

    async def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.begun.acquire, True, LONG_S)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    found = Held()

    def wait(*_: Any, **__: Any) -> Any:
        found.begun.release()
        found.go_on.wait(LONG_S)
        raise Invalid("file", "held", "nothing")

    monkeypatch.setattr(imports, "import_file", wait)
    return found


def test_long_imports_leave_the_threads_that_answer_pages(platform: Platform, held: Held) -> None:
    async def go() -> None:
        async with asking(platform) as client:
            many = (client.post("/api/imports/pairs", content=rows(1)) for _ in range(MANY))
            under_way = asyncio.gather(*many)
            await held.wait_for(IMPORT_THREADS)
            for path in ("/api/pairs/stats", "/api/status", "/login"):
                answer = await client.get(path, headers={"Authorization": "Bearer unknown"})
                assert answer.status_code == 200
            assert not held.begun.acquire(blocking=False), "no more at a time"
            held.go_on.set()
            assert {answer.status_code for answer in await under_way} == {422}

    asyncio.run(go())


def test_votes_that_wait_for_an_erasure_leave_threads_to_who_reads(platform: Platform) -> None:
    async def go() -> None:
        async with asking(platform) as client:
            with platform.db.atomic():  # on this thread, as an erasure holds the store on its own
                waiting = [
                    asyncio.create_task(client.post("/api/keys", json={"name": f"k{n}", "roles": ["chat"]}))
                    for n in range(12)
                ]
                assert (await client.get("/api/pairs/stats")).status_code == 200
                assert not any(task.done() for task in waiting)
            assert {(await task).status_code for task in waiting} == {201}

    asyncio.run(go())


def test_an_import_that_waits_for_its_turn_does_not_begin_for_a_caller_that_left(
    platform: Platform, held: Held, removed: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MAX_SILENCE_S", 0.05)

    async def go() -> None:
        async with asking(platform) as client:
            busy = (client.post("/api/imports/pairs", content=rows(1)) for _ in range(IMPORT_THREADS))
            under_way = asyncio.gather(*busy)
            await held.wait_for(IMPORT_THREADS)
            async with client.stream("POST", "/api/imports/pairs", content=rows(1), headers=LINES) as answer:
                line = await anext(answer.aiter_lines())
                assert json.loads(line)["progress"]["waiting"]
            await happens(removed)
            held.go_on.set()
            await under_way

    asyncio.run(go())
    assert not held.begun.acquire(blocking=False)


@pytest.mark.parametrize("headers", [LINES, {}], ids=["stream", "plain"])
def test_import_stops_at_the_next_batch_after_its_client_disconnects(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    removed: threading.Event,
    noticed: threading.Event,
    headers: dict[str, str],
) -> None:
    monkeypatch.setattr(batch_import, "BATCH", 2)
    monkeypatch.setattr(batch_import, "TELL_S", LONG_S)
    begun = threading.Event()

    def paced(*args: Any, on_progress: Callable[[Progress], None], **options: Any) -> Any:
        def after_a_batch(progress: Progress) -> None:
            on_progress(progress)
            begun.set()
            noticed.wait(LONG_S)

        return import_file.import_file(*args, on_progress=after_a_batch, **options)

    monkeypatch.setattr(imports, "import_file", paced)

    async def go() -> None:
        async with asking(platform) as client:
            sent = client.post("/api/imports/pairs", content=rows(20), headers=headers)
            asked = asyncio.create_task(sent)
            await happens(begun)
            asked.cancel()
            await happens(removed)
            assert pairs.count(platform.db) == 4, "what was taken stays"
            assert list(platform.paths.scratch.iterdir()) == []
            again = (await client.post("/api/imports/pairs", content=rows(20))).json()
            assert (again["accepted"], again["duplicates"]) == (16, 4)

    asyncio.run(go())


def test_a_stream_tells_progress_then_refused_rows_then_the_result(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_import, "BATCH", 2)
    bad = b'{"prompt": "a\xe2\x80\xa8b"}\nbroken\n'
    answer = client.post("/api/imports/pairs?name=votes", content=rows(3) + bad, headers=LINES)
    assert answer.headers["content-type"] == "application/x-ndjson"
    told = lines(answer.text)
    progress = [line["progress"] for line in told if "progress" in line]
    assert progress[-1] | {"waiting": False} == {
        "bytes_done": len(rows(3) + bad), "bytes_total": len(rows(3) + bad), "rows": 5, "accepted": 3,
        "duplicates": 0, "rejected": 2, "waiting": False,
    }  # fmt: skip
    refused = [line["refused"] for line in told if "refused" in line]
    assert [row["row"] for row in refused] == [4, 5]
    assert refused[0]["data"] == {"prompt": "a\u2028b"}
    done = told[-1]["result"]
    assert (done["accepted"], done["rejected_count"], done["rejects"]) == (3, 2, None)
    assert [row["row"] for row in done["rejected"]] == [4, 5]
    assert list(platform.paths.scratch.iterdir()) == []


def test_a_stream_ends_with_what_went_wrong(client: TestClient) -> None:
    (told,) = lines(client.post("/api/imports/pairs", content=b"no rows at all", headers=LINES).text)
    assert (told["problem"]["status"], told["problem"]["field"]) == (422, "file")


@pytest.mark.parametrize("ask", ["get", "post"])
def test_options_are_refused_before_a_file_is_sent(client: TestClient, ask: str) -> None:
    for query, status, named in (("format=morse", 422, "format"), ("deployment=nobody", 404, "deployment")):
        refused = getattr(client, ask)(f"/api/imports/pairs?{query}")
        assert (refused.status_code, refused.json()["field"]) == (status, named)
        assert refused.json()["accepted"]
    assert "argilla" in client.get("/api/imports/pairs?deployment=assistant").json()["formats"]


def test_leftovers_of_a_killed_platform_are_removed_at_the_next_start(settings: Settings) -> None:
    left = settings.data / "scratch" / "tmp1" / "upload"
    left.parent.mkdir(parents=True)
    left.write_text("what somebody said")
    build_platform(settings, URL).db.close()
    assert list((settings.data / "scratch").iterdir()) == []


def test_a_line_may_hold_a_line_separator(client: TestClient) -> None:
    row = '{"prompt": "a\u2028b?", "chosen": "yes\u0085", "rejected": "no"}\n'
    done = client.post("/api/pairs", content=(row + row.replace("a", "c")).encode()).json()
    assert (done["accepted"], done["rejected_count"]) == (2, 0)
    assert client.get("/api/pairs").json()[1]["prompt"][0]["content"] == "a\u2028b?"
