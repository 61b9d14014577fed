"""An erasure reaches everything that a platform holds: runs under way, files of runs, and every place of a name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from align.run_directory import RunDirectory
from store.accounts import audit, keys, usage, users
from store.accounts.usage import Usage
from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store, utcnow
from store.db.rows import fetch_all
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.rollout import deployments, evaluation_items, evaluations, releases, runs
from store.training_data import pairs
from store.values import Message
from trimtab import erasure, loop
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"
NAME = "zebulon"


def build(data: Path, **settings: Any) -> Platform:
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    return build_platform(Settings(data=data, engines=engines, **settings), URL)


@contextmanager
def serving(platform: Platform) -> Iterator[TestClient]:
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield client


def vote(db: Store, question: str, rater: str, **more: Any) -> None:
    made = comparisons.create(db, question, [Candidate("good"), Candidate("bad")], "assistant", **more)
    comparisons.vote(db, made.id, "a" if made.a.content == "good" else "b", rater)


class Training:
    """Stands for a worker that trains until it is stopped."""

    begun = threading.Event()

    def __init__(self, db: Store, run_id: str, directory: RunDirectory, workers: object) -> None:
        (directory.path / "probe.json").write_text("{}")

    async def execute(self) -> None:
        Training.begun.set()
        await asyncio.Event().wait()


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setattr("trimtab.loop.Worker", Training)
    Training.begun.clear()
    made = build(tmp_path / "data")
    vote(made.db, "Why is the sea salt?", NAME)
    vote(made.db, "How far is the moon?", "bob")
    return made


def texts_of(platform: Platform, run_id: str) -> list[str]:
    return sorted(file.name for file in platform.paths.run(run_id).iterdir() if file.name != "run.toml")


def test_an_erasure_stops_the_run_that_trains_on_it_and_no_other(platform: Platform) -> None:
    turn = Turn("c1", "conv", (Message("user", "Hi"),), "Hello.", "assistant", user="cy")
    conversations.record_turns(platform.db, [turn])
    with serving(platform) as client:
        run = client.post("/api/runs", json={"method": "dpo", "deployment": "assistant"}).json()["id"]
        assert Training.begun.wait(30)
        other = client.post("/api/users/cy/erase").json()
        assert (other["stopped"], other["runs"], other["removed"]["conversations"]) == ([], [], 1)
        told = client.post(f"/api/users/{NAME}/erase?dry_run=true").json()
        assert (told["stopped"], told["runs"], told["removed"]["votes"], told["dry_run"]) == (
            [run],
            [run],
            1,
            True,
        )
        assert client.get(f"/api/runs/{run}").json()["state"] == "training"
        assert texts_of(platform, run) == ["heldout.parquet", "probe.json", "train.parquet"]
        assert len(client.get("/api/erasures").json()["erasures"]) == 1

        done = client.post(f"/api/users/{NAME}/erase").json()
        assert (done["stopped"], done["runs"], done["dry_run"]) == ([run], [run], False)
        ended = client.get(f"/api/runs/{run}").json()
        assert ended["state"] == "cancelled"
        assert "was erased" in ended["error"]
        assert texts_of(platform, run) == []
        again = client.post(f"/api/runs/{run}/resume")
        assert again.status_code == 409
        assert "start a new run" in again.json()["detail"]


def test_a_run_whose_data_was_erased_while_no_platform_ran_is_not_taken_up(platform: Platform) -> None:
    with serving(platform) as client:
        run = client.post("/api/runs", json={"method": "dpo", "deployment": "assistant"}).json()["id"]
        assert Training.begun.wait(30)
    with Store.open(platform.paths.store) as db:
        done = erasure.erase_offline(db, platform.paths, NAME, "operator")
        assert done["stopped"] == [run]
    again = build(platform.paths.root)
    with serving(again) as client:
        assert client.get(f"/api/runs/{run}").json()["state"] == "cancelled"
        assert texts_of(again, run) == []


def do_everything_once(platform: Platform, home: Path) -> None:
    """Leave the name wherever the platform writes names."""
    db = platform.db
    users.create(db, NAME, ["rater"], "correct horse")
    users.start_session(db, NAME)
    keys.create(db, f"laptop of {NAME}", ["chat"], user=NAME)
    usage.add(db, {utcnow().date(): [Usage(f"user {NAME}", NAME, 1, 2, 3)]})
    turn = Turn("c1", "conv", (Message("user", f"I am {NAME}"),), f"Hello {NAME}.", "assistant", user=NAME)
    conversations.record_turns(db, [turn])
    conversations.like(db, "c1", True, NAME)
    made = comparisons.create(
        db, f"Who is {NAME}?", [Candidate("x"), Candidate("y")], "assistant", asked_by=NAME, votes_wanted=2
    )
    comparisons.vote(db, made.id, "a", NAME, better=f"{NAME} is", tags=[NAME])
    comparisons.vote(db, made.id, "a", "bob")
    vote(db, "Mine", NAME)
    shared = comparisons.create(db, "Ours", [Candidate("x"), Candidate("y")], "assistant", votes_wanted=2)
    for rater in (NAME, "bob"):
        comparisons.vote(db, shared.id, "a", rater, better="z", tags=[f"of {rater}"])
    vote(db, "Asked first by bob", "bob", asked_by="bob")
    pairs.import_rows(db, [{"prompt": "p", "chosen": "x", "rejected": "y"}], "file.jsonl", imported_by=NAME)
    for excluded in ((), (NAME,)):
        snapshots.build(
            db,
            platform.paths.snapshots,
            "assistant",
            "dpo",
            0.0,
            exclude_raters=excluded,
            near_duplicates=None,
        )
    run = runs.create(db, "dpo", "assistant", requested_by=NAME)
    asyncio.run(loop.take_snapshot(platform.loop, runs.move(db, run.id, "snapshot")))
    runs.move(db, run.id, "cancelled")
    release = releases.create(db, "assistant", BASE, created_by=NAME)
    evaluation = evaluations.create(db, release.id, requested_by=NAME)
    about = next(pair.id for pair in pairs.list_page(db) if NAME in str(pair.pair.prompt))
    item = {
        "measure": "answer",
        "cluster": "c",
        "item": about,
        "side": "release",
        "reference": about,
        "detail": {},
    }
    evaluation_items.record(db, evaluation.id, [{**item, "answer": f"{NAME} is a name"}])
    deployments.promote(db, "assistant", NAME, release=release.id)
    audit.record(db, NAME, "looked", "x")


def places_of(db: Store, name: str) -> list[str]:
    tables = [
        row["table_name"]
        for row in fetch_all(db.read(), "from duckdb_tables() where not internal and not temporary")
    ]
    return [
        table
        for table in tables
        if fetch_all(
            db.read(), f"select 1 from {table} where contains({table}::varchar, $name)", {"name": name}
        )
    ]


def test_an_erased_name_is_nowhere(tmp_path: Path) -> None:
    platform = build(tmp_path / "data")
    do_everything_once(platform, tmp_path)
    assert len(places_of(platform.db, NAME)) > 15, "the test would find nothing if nothing were there"
    with serving(platform) as client:
        done = client.post(f"/api/users/{NAME}/erase", headers={"Authorization": f"Bearer {platform.key}"})
        assert done.status_code == 200, done.text
        assert places_of(platform.db, NAME) == []
        assert verify.verify(platform.db) == []
        assert {record.pair.tags for record in pairs.list_page(platform.db) if record.source != "file.jsonl"} == {
            (), ("of bob",)
        }  # fmt: skip
        for file in platform.paths.root.rglob("*"):
            if file.is_file() and not file.name.startswith("trimtab.duckdb"):
                assert NAME.encode() not in file.read_bytes(), file
