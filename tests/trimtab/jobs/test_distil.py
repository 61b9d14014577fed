"""Distilling a prompt: the prompted release's answers become demonstrations without the prompt, and a run learns them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from align.run_directory import RunDirectory
from store.db.rows import fetch_all
from store.rollout import deployments, releases, runs
from tests.support.stub_releases import Release, StubPlatform
from tests.trimtab.jobs.test_make_pairs import BASE, PROMPTS, ended, no_screens, serving
from trimtab import loop
from trimtab.platform import Platform

__all__ = ["no_screens"]


class Waits:
    """Stands for a worker that trains until it is stopped."""

    def __init__(self, db: object, run_id: str, directory: RunDirectory, workers: object) -> None:
        """Train nothing."""

    async def execute(self) -> None:
        await asyncio.Event().wait()


def prompted(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stable release that answers as a pirate; the stub answers for it."""
    monkeypatch.setattr(loop, "Worker", Waits)
    release = releases.create(platform.db, "assistant", BASE, system_prompt="Be a pirate.")
    deployments.promote(platform.db, "assistant", release=release.id)
    pirate = Release(answer=lambda prompt, rng, max_tokens: (f"Arr, {rng.randint(0, 10**9)}!", "stop"))
    stub = StubPlatform(assistant_1=Release(), assistant_2=pirate)
    work: Any = platform.jobs.kinds["distil"]
    monkeypatch.setattr(work, "chat_api", stub.api)
    return release.ref


def distil(client: TestClient, **body: Any) -> dict[str, Any]:
    asked = client.post("/api/runs/distil", json={"prompts": PROMPTS, **body})
    assert asked.status_code == 202, asked.text
    return ended(client, asked.json()["id"])


def test_a_prompt_is_distilled_into_a_run_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as (platform, client):
        ref = prompted(platform, monkeypatch)
        done = distil(client, release=ref, params={"learning_rate": 1e-4})
        assert done["state"] == "done", done
        result = done["result"]
        rows = fetch_all(
            platform.db.read(),
            "select prompt, completion[1].content as text, release, source from demonstrations",
        )
        assert result["demonstrations"] == len(rows) == result["prompts"] > 8
        assert all(row["text"].startswith("Arr") and row["release"] == "" for row in rows)
        assert {len(row["prompt"]) for row in rows} == {1}
        assert {row["source"] for row in rows} == {result["source"]}
        run = client.get(f"/api/runs/{result['run']}").json()
        assert run["method"] == "sft"
        assert run["no_system_prompt"] is True
        assert run["params"] == {"learning_rate": 1e-4}
        directory = RunDirectory(platform.paths.run(run["id"]))
        while client.get(f"/api/runs/{run['id']}").json()["state"] != "training":
            pass
        assert directory.spec().system_prompt is None
        assert releases.get(platform.db, ref).system_prompt == "Be a pirate."
        client.post(f"/api/runs/{run['id']}/cancel")
        again = distil(client, release=ref, n=2)
        texts = fetch_all(platform.db.read(), "select source from demonstrations")
        assert len(texts) == again["result"]["demonstrations"]
        client.post(f"/api/runs/{again['result']['run']}/cancel")


def test_ordinary_runs_keep_the_prompt_of_stable(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, _):
        assert runs.create(platform.db, "sft", "assistant").no_system_prompt is False


@pytest.mark.parametrize(
    ("body", "field", "accepted"),
    [
        ({"release": "assistant@1"}, "release", "system prompt"),
        ({"release": "assistant@2", "prompts": []}, "prompts", "at least one"),
        ({"release": "assistant@2", "n": 0}, "n", "at least 1"),
        ({"release": "assistant@2", "params": {"learning_rat": 1}}, "params.learning_rat", "learning_rate"),
        ({"release": "assistant@2", "recipe": "nice"}, "params.recipe", "thumbs"),
        ({}, "release", None),
    ],
)
def test_a_bad_request_names_field_and_values(
    shared: TestClient, body: dict[str, Any], field: str, accepted: str | None
) -> None:
    answer = shared.post("/api/runs/distil", json={"prompts": PROMPTS, **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert accepted is None or accepted in str(answer.json()["accepted"])
    assert shared.get("/api/jobs").json() == []


def test_an_unknown_release_is_not_found(shared: TestClient) -> None:
    assert shared.post("/api/runs/distil", json={"release": "assistant@9"}).status_code == 404


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(tmp_path_factory.mktemp("shared")) as (platform, client),
    ):
        prompted(platform, patch)
        yield client
