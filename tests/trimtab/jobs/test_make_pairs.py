"""Pairs without people, through the platform: sampled, decided, recorded once, and gone on with after a kill."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from store.accounts import sharing
from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import made_members
from store.datasets.snapshot_settings import SnapshotSettings
from store.db.rows import fetch_all, loads
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.jobs import job_parts
from store.rollout import releases
from store.training_data import pairs
from store.values import Message
from tests.support.stub_releases import Release, StubPlatform
from trimtab import ui_mount
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.jobs.make_pairs import MakePairs
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"
LONG_S = 30
PROMPTS = [f"What is the number {n} like?" for n in range(24)]
SHORTER = {"prefer": "shorter"}


def rambling(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
    """Answer in 3 to 30 words, of which every fifth answer is cut."""
    text = " ".join(f"word{rng.randint(0, 999)}" for _ in range(rng.randint(3, 30)))
    return text, "length" if rng.random() < 0.2 else "stop"


class Counted:
    """Answers as `rambling` does, and counts; fails from the answer `fail_at` on."""

    def __init__(self) -> None:
        self.asked = 0
        self.fail_at: int | None = None

    def __call__(self, prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
        self.asked += 1
        if self.fail_at is not None and self.asked >= self.fail_at:
            raise RuntimeError("the engine died")
        return rambling(prompt, rng, max_tokens)


@pytest.fixture(autouse=True)
def no_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())


@contextmanager
def serving(data: Path, answer: Any = rambling, **settings: Any) -> Iterator[tuple[Platform, TestClient]]:
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=data, engines=engines, **settings), URL)
    better = Release(answer=lambda prompt, rng, max_tokens: (f"Better: {rng.random()}", "stop"))
    stub = StubPlatform(assistant_1=Release(answer=answer), assistant_2=better)
    work = platform.jobs.kinds["pairs.make"]
    assert isinstance(work, MakePairs)
    work.chat_api = stub.api

    async def ready(base: str) -> None:
        """An engine that serves."""

    work.serving.wait_ready = ready  # type: ignore[method-assign]
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield platform, client


def make(client: TestClient, **body: Any) -> dict[str, Any]:
    """Ask for pairs and wait for the job."""
    asked = client.post("/api/pairs/make", json={"prompts": PROMPTS, "rules": SHORTER, **body})
    assert asked.status_code == 202, asked.text
    return ended(client, asked.json()["id"])


def ended(client: TestClient, job: str) -> dict[str, Any]:
    until = time.monotonic() + LONG_S
    while (found := client.get(f"/api/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.02)
    return dict(found)


def stored(platform: Platform) -> list[dict[str, Any]]:
    return fetch_all(
        platform.db.read(),
        """
        select prompt[1].content as prompt, chosen[1].content as chosen, rejected[1].content as rejected, pairs.source,
            pairs.release, chosen_finish_reason, rejected_finish_reason, made_rows.detail, made_rows.release as sampled
        from pairs
        join evidence on subject_id = pairs.id
        join made_rows on made_rows.id = ref
        order by pairs.id
        """,
    )


def test_rules_make_pairs_of_sampled_answers(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client):
        done = make(client)
        assert done["state"] == "done", done
        result, rows = done["result"], stored(platform)
        kept = {
            text for text in PROMPTS if made_members.is_reserved((Message("user", text),), SnapshotSettings())
        }
        assert result["heldout"] == len(kept) > 3
        assert result["prompts"] == len(PROMPTS) - len(kept)
        assert result["pairs"] == len(rows) == result["prompts"] - result["undecided"] > 5
        assert result["answers"] == 4 * result["prompts"]
        assert result["cut"] > 0
        stable = releases.get(platform.db, "assistant@1").id
        for row in rows:
            assert len(row["chosen"].split()) < len(row["rejected"].split())
            assert row["prompt"] not in kept
            assert row["source"] == result["source"]
            assert row["source"].startswith("rules:")
            assert row["release"] == row["sampled"] == stable
            assert row["chosen_finish_reason"] == row["rejected_finish_reason"] == "stop"
            assert loads(row["detail"])["ranks"] == [0, loads(row["detail"])["usable"] - 1]
        left = job_parts.kept(platform.db, done["id"])
        assert {key.partition(":")[0] for key in left} == {"heldout", "result"}
        assert {part[0]["content"] for key, part in left.items() if key != "result"} == kept


def test_against_low_pairs_the_best_with_the_one_above_the_worst(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client):
        make(client, against="low", n=5)
        ranks = [loads(row["detail"])["ranks"] for row in stored(platform)]
        assert {
            loads(row["detail"])["usable"] - rank[1]
            for row, rank in zip(stored(platform), ranks, strict=True)
        } >= {2}


def test_cut_answers_may_be_the_worse_ones(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client):
        done = make(client, cut="reject")
        reasons = {(row["chosen_finish_reason"], row["rejected_finish_reason"]) for row in stored(platform)}
        assert reasons == {("stop", "stop"), ("stop", "length")}
        assert done["result"]["pairs"] == len(stored(platform))


def test_a_better_release_decides(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client):
        better = releases.create(platform.db, "assistant", BASE, system_prompt="Be better.")
        done = make(client, rules=None, release=better.ref)
        assert done["result"]["pairs"] == len(stored(platform)) > 5
        assert done["result"]["answers"] == 2 * done["result"]["prompts"]
        assert all(row["chosen"].startswith("Better") for row in stored(platform))
        assert stored(platform)[0]["source"] == f"release:{better.id}"
        assert stored(platform)[0]["release"] == releases.get(platform.db, "assistant@1").id


def test_a_job_that_failed_goes_on_after_the_answers_it_has(tmp_path: Path) -> None:
    counted = Counted()
    counted.fail_at = 30
    with serving(tmp_path, counted) as (platform, client):
        found = make(client)
        assert found["state"] == "failed"
        assert len(job_parts.kept(platform.db, found["id"], "answers:")) > 3
        assert pairs.count(platform.db) == 0
    counted.fail_at, before = None, counted.asked
    with serving(tmp_path, counted) as (platform, client):
        again = make(client)
        assert again["id"] == found["id"]
        assert again["state"] == "done"
        assert counted.asked - before < 4 * again["result"]["prompts"] - 12
        assert again["result"]["pairs"] == pairs.count(platform.db)
        first = stored(platform)
        repeated = make(client)
        assert repeated["id"] != found["id"]
        assert repeated["result"]["pairs"] == 0
        assert repeated["result"]["duplicates"] == len(first)
        assert stored(platform) == first


def asked(platform: Platform, text: str, user: str) -> None:
    prompt = (Message("user", text),)
    turn = Turn(f"chat-{text}", f"of {text}", prompt, "Hello.", "assistant", user=user, source="chat")
    conversations.record_turns(platform.db, [turn])


def test_traffic_is_what_people_share_for_training(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client):
        for text in PROMPTS:
            asked(platform, text, "zoe" if PROMPTS.index(text) % 2 else "bob")
        sharing.choose(platform.db, "user zoe", "show")
        done = make(client, prompts=None)
        assert done["state"] == "done", done
        assert done["result"]["prompts"] + done["result"]["heldout"] == 12
        assert {PROMPTS.index(row["prompt"]) % 2 for row in stored(platform)} == {0}
        assert client.post("/api/erasures", json={"name": "bob"}).is_success
        assert stored(platform) == []
        assert job_parts.kept(platform.db, done["id"], "heldout:") == {}


@contextmanager
def judging(verdict: Callable[[str, str], str]) -> Iterator[str]:
    """A judge that says `A`, `B` or `tie` of two answers, by `verdict`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][0]["content"]
            a, b = (text.partition(f"<answer {side}>")[2].partition("</answer")[0] for side in "AB")
            content = json.dumps(
                {"choices": [{"message": {"content": json.dumps({"verdict": verdict(a, b)})}}]}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def shorter(a: str, b: str) -> str:
    return "A" if len(a) < len(b) else "B"


def test_a_judge_that_agrees_with_people_decides(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client), judging(shorter) as url:
        for n in range(50):
            made = comparisons.create(
                platform.db, f"Voted {n}?", [Candidate("short"), Candidate("rather long")], "assistant"
            )
            comparisons.vote(platform.db, made.id, "a" if made.a.content == "short" else "b", "ada")
        votes = pairs.count(platform.db)
        done = make(client, rules=None, judge={"url": url, "model": "j"}, n=3)
        assert done["state"] == "done", done
        assert done["result"]["judge"]["why"] is None
        assert done["result"]["pairs"] == pairs.count(platform.db) - votes > 5
        for row in stored(platform):
            assert len(row["chosen"]) < len(row["rejected"])
            assert loads(row["detail"])["calibrated"] is True
            assert row["source"].startswith("judge:")


def test_a_judge_that_was_not_compared_with_people_is_refused_or_marked(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client), judging(shorter) as url:
        body = {"prompts": PROMPTS[:12], "judge": {"url": url, "model": "j"}, "n": 2}
        refused = client.post("/api/pairs/make", json=body)
        assert refused.status_code == 422
        assert refused.json()["field"] == "judge"
        assert "fewer than 50" in refused.json()["detail"]
        assert "uncalibrated" in refused.json()["accepted"]
        done = make(client, **body, rules=None, uncalibrated=True)
        assert "fewer than 50" in done["result"]["judge"]["why"]
        assert [loads(row["detail"])["calibrated"] for row in stored(platform)] == [False] * done["result"][
            "pairs"
        ]


def test_a_judge_that_prefers_what_it_reads_first_makes_no_pair(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client), judging(lambda a, b: "A") as url:
        done = make(client, rules=None, judge={"url": url, "model": "j"}, uncalibrated=True, n=2)
        assert done["state"] == "done", done
        assert done["result"]["pairs"] == 0
        assert done["result"]["undecided"] == done["result"]["prompts"]
        assert pairs.count(platform.db) == 0


def test_a_judge_without_verdicts_ends_the_job(tmp_path: Path) -> None:
    with serving(tmp_path) as (platform, client), judging(lambda a, b: "maybe") as url:
        done = make(client, rules=None, judge={"url": url, "model": "j"}, uncalibrated=True)
        assert done["state"] == "failed"
        assert "without a valid verdict" in done["error"]
        assert pairs.count(platform.db) == 0


@pytest.mark.parametrize(
    ("body", "field", "accepted"),
    [
        ({"rules": None}, "rules", "exactly one of rules, judge, release"),
        ({"release": "assistant@1"}, "rules", "exactly one"),
        ({"rules": None, "release": "assistant@1"}, "release", "another release"),
        ({"rules": {"prefer": "funny"}}, "rules.prefer", "shorter or longer"),
        ({"rules": {"rules": [{"rule": "nice"}]}}, "rules", "max_words"),
        ({"prompts": []}, "prompts", "at least one"),
        ({"prompts": ["Hi", ""]}, "prompts[1]", "user"),
        ({"prompts": [[{"role": "assistant", "content": "Hi"}]]}, "prompts[0]", "user"),
        ({"prompts": [[{"role": "king", "content": "Hi"}]]}, "prompts[0]", "user"),
        ({"prompts": [7]}, "prompts[0]", "messages"),
        ({"n": 1}, "n", "at least 2"),
        ({"against": "best"}, "against", "low"),
        ({"rules": None, "judge": {"url": "ftp://x", "model": "j"}}, "judge.url", "http"),
        ({"rules": None, "judge": {"url": "http://x"}}, "judge.model", None),
        ({"weight": 2}, "weight", "at most 1"),
        ({"cut": "keep"}, "cut", "reject"),
        ({"rules": None, "release": "assistant@1", "cut": "reject"}, "release", "another release"),
        ({"rules": None, "judge": {"url": "http://x", "model": "j"}, "cut": "reject"}, "cut", "drop"),
    ],
)
def test_a_bad_request_names_field_and_values(
    shared: TestClient, body: dict[str, Any], field: str, accepted: str | None
) -> None:
    answer = shared.post("/api/pairs/make", json={"prompts": PROMPTS, "rules": SHORTER, **body})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert field in str(problem["field"])
    assert accepted is None or accepted in str(problem["accepted"])
    assert shared.get("/api/jobs").json() == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("shared")) as (_, client):
        yield client


def test_unknown_deployments_and_releases_are_not_found(shared: TestClient) -> None:
    body = {"prompts": PROMPTS, "rules": SHORTER}
    assert shared.post("/api/pairs/make", json={**body, "deployment": "poet"}).status_code == 404
    missing = {"prompts": PROMPTS, "release": "assistant@9"}
    assert shared.post("/api/pairs/make", json=missing).status_code == 404


def test_a_plan_says_how_much_it_takes_and_starts_nothing(shared: TestClient) -> None:
    body = {"prompts": PROMPTS, "judge": {"url": "http://x", "model": "j"}, "n": 3}
    plan = shared.post("/api/pairs/make/plan", json=body).json()
    assert plan["prompts"] + plan["heldout"] == len(PROMPTS)
    assert plan["requests"] == 3 * plan["prompts"]
    assert plan["judgements"] == 6 * plan["prompts"] + 200
    assert plan["seconds"] > 0
    assert "requests" in plan["text"]
    assert shared.get("/api/jobs").json() == []
