"""Jobs: progress, cancelling, and going on after a kill with what was done, through the platform's own API."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.db.rows import fetch_all
from store.errors import Conflict, Invalid
from store.jobs import job_parts, jobs
from store.jobs.job_parts import Part
from trimtab import ui_mount
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.jobs.job_context import JobContext
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
LONG_S = 30


class Counting:
    """Counts to `params["to"]`, a part a number; waits before the number `stop_at` while `open` is not set."""

    def __init__(self) -> None:
        self.counted: list[int] = []
        self.stop_at: int | None = None
        self.reached, self.open = threading.Event(), threading.Event()

    async def __call__(self, job: JobContext) -> dict[str, Any]:
        done = await job.kept("number:")
        for number in range(job.params["to"]):
            job.progress(number, job.params["to"], "counting")
            if f"number:{number}" in done:
                continue
            if number == self.stop_at:
                self.reached.set()
                while not self.open.is_set():
                    await asyncio.sleep(0.01)
            if job.params.get("fail_at") == number and not self.open.is_set():
                raise ValueError("no such number")
            self.counted.append(number)
            await job.keep(Part(f"number:{number}", {"n": number}))
        found = await job.kept("number:")
        return {"sum": sum(part["n"] for part in found.values())}


@contextmanager
def running(data: Path, work: Counting) -> Iterator[tuple[Platform, TestClient]]:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=data, engines=engines), URL)
    platform.jobs.kinds = {"count": work}
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield platform, client


@pytest.fixture(autouse=True)
def no_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import FastAPI

    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())


def submit(platform: Platform, client: TestClient, **params: Any) -> str:
    assert client.portal is not None
    return client.portal.call(platform.jobs.submit, "count", params, "ada").id


def ended(client: TestClient, job: str) -> dict[str, Any]:
    until = time.monotonic() + LONG_S
    while (found := client.get(f"/api/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.02)
    return dict(found)


def test_a_job_ends_with_its_result_and_shows_progress(tmp_path: Path) -> None:
    work = Counting()
    work.stop_at = 2
    with running(tmp_path, work) as (platform, client):
        job = submit(platform, client, to=4)
        assert work.reached.wait(LONG_S)
        shown = client.get(f"/api/jobs/{job}").json()
        assert shown["state"] == "running"
        assert shown["progress"]["done"] == 2
        assert shown["progress"]["total"] == 4
        assert shown["progress"]["doing"] == "counting"
        assert shown["progress"]["seconds_left"] >= 0
        work.open.set()
        found = ended(client, job)
        assert found["state"] == "done", found
        assert found["result"] == {"sum": 6}
        assert found["progress"] is None
        assert [row["id"] for row in client.get("/api/jobs", params={"kind": "count"}).json()] == [job]
        assert client.get("/api/jobs", params={"kind": "other"}).json() == []


def test_a_cancelled_job_goes_on_after_what_it_did(tmp_path: Path) -> None:
    work = Counting()
    work.stop_at = 2
    with running(tmp_path, work) as (platform, client):
        job = submit(platform, client, to=4)
        assert work.reached.wait(LONG_S)
        assert client.post(f"/api/jobs/{job}/cancel").json()["state"] == "cancelled"
        work.open.set()
        assert client.post(f"/api/jobs/{job}/resume").status_code == 202
        assert ended(client, job)["result"] == {"sum": 6}
        assert work.counted == [0, 1, 2, 3]


def test_one_request_may_be_made_twice_at_once(tmp_path: Path) -> None:
    work = Counting()
    work.stop_at = 0
    with running(tmp_path, work) as (platform, client):
        assert client.portal is not None

        async def submit_twice() -> list[Any]:
            asked = (platform.jobs.submit("count", {"to": 1}, "ada") for _ in range(2))
            return list(await asyncio.gather(*asked))

        async def cancel_twice(job: str) -> list[Any]:
            return list(await asyncio.gather(*(platform.jobs.cancel(job) for _ in range(2))))

        one, other = client.portal.call(submit_twice)
        assert one.id == other.id
        assert work.reached.wait(LONG_S)
        assert [job.state for job in client.portal.call(cancel_twice, one.id)] == ["cancelled"] * 2


def test_the_same_parameters_continue_an_unfinished_job_and_repeat_a_finished_one(tmp_path: Path) -> None:
    work = Counting()
    with running(tmp_path, work) as (platform, client):
        job = submit(platform, client, to=3, fail_at=1)
        found = ended(client, job)
        assert found["state"] == "failed"
        assert found["error"] == "no such number"
        work.open.set()
        assert submit(platform, client, fail_at=1, to=3) == job
        assert ended(client, job)["state"] == "done"
        assert work.counted == [0, 1, 2]
        assert submit(platform, client, to=3, fail_at=1) != job


def test_a_killed_platform_continues_its_jobs(tmp_path: Path) -> None:
    work = Counting()
    work.stop_at = 1
    with running(tmp_path, work) as (platform, client):
        job = submit(platform, client, to=3)
        assert work.reached.wait(LONG_S)
    again = Counting()
    with running(tmp_path, again) as (_, client):
        assert ended(client, job)["result"] == {"sum": 3}
    assert again.counted == [1, 2]


def test_unknown_jobs_and_kinds_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, Counting()) as (platform, client):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/resume")):
            assert client.request(method, f"/api/jobs/job-1{path}").status_code == 404
        assert client.portal is not None
        with pytest.raises(Invalid, match="count"):
            client.portal.call(platform.jobs.submit, "paint", {}, "ada")
        job = submit(platform, client, to=1)
        ended(client, job)
        with pytest.raises(Conflict, match="done and cannot become running"):
            jobs.move(platform.db, job, "running")


def test_parts_of_an_erased_prompt_are_deleted_and_no_more_are_kept(tmp_path: Path) -> None:
    work = Counting()
    work.stop_at = 0
    with running(tmp_path, work) as (platform, client):
        job = submit(platform, client, to=1)
        assert work.reached.wait(LONG_S)
        prompt = Part("prompt:1", "Where do I live?", owners=["user zebulon"])
        other = Part("prompt:2", "How far is the moon?")
        job_parts.keep(platform.db, job, [prompt, other, Part("answer:1", "There.", of="prompt:1")])
        done = client.post("/api/erasures", json={"name": "zebulon"})
        assert done.status_code in (200, 201), done.text
        assert done.json()["stopped"] == [job]
        job_parts.keep(platform.db, job, [Part("answer:1", "There.", of="prompt:1")])
        job_parts.keep(platform.db, job, [Part("answer:2", "Far.", of="prompt:2")])
        assert job_parts.kept(platform.db, job) == {"answer:2": "Far.", "prompt:2": "How far is the moon?"}
        found = client.get(f"/api/jobs/{job}").json()
        assert found["state"] == "cancelled"
        assert "erased" in found["error"]


def test_whoever_asked_for_a_job_is_renamed_by_an_erasure(tmp_path: Path) -> None:
    with running(tmp_path, Counting()) as (platform, client):
        ended(client, submit(platform, client, to=1))
        assert client.post("/api/erasures", json={"name": "ada"}).is_success
        assert "ada" not in str(fetch_all(platform.db.read(), "from jobs"))
