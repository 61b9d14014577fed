"""Evaluations through the platform: the suite's items, report and progress, on releases that a stub plays."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from align.evaluation.items import from_json
from align.evaluation.report import measures_of
from store.datasets import snapshots
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import evaluation_items, releases
from store.training_data import pairs
from tests.support.stub_releases import Release, StubPlatform
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"


@contextmanager
def measured(
    data: Path, monkeypatch: pytest.MonkeyPatch, **releases_by_name: Release
) -> Iterator[tuple[Platform, TestClient]]:
    """A platform with held-out pairs and two releases, which the stub answers for."""
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=data, engines=engines), URL)
    rows = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": f"no, not {n}"} for n in range(40)]
    pairs.import_rows(platform.db, rows, "file.jsonl")
    snapshots.build(platform.db, platform.paths.snapshots, "assistant", "dpo", 0.3, near_duplicates=None)
    stub = StubPlatform(**releases_by_name)
    monkeypatch.setattr(platform.evaluations, "_chat_api", stub.api)

    async def ready(base: str) -> None:
        """An engine that serves."""

    monkeypatch.setattr(platform.serving, "wait_ready", ready)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        client.headers["Authorization"] = f"Bearer {platform.key}"
        releases.create(platform.db, "assistant", BASE, sampling={"max_tokens": 20})
        yield platform, client


def evaluate(client: TestClient, suite: str = "quick") -> dict[str, Any]:
    body = {"release": "assistant@2", "against": "assistant@1", "suite": suite}
    asked = client.post("/api/evals", json=body)
    assert asked.status_code == 202, asked.text
    found = asked.json()
    until = time.monotonic() + 60
    while found["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.05)
        found = client.get(f"/api/evals/{found['id']}").json()
    return dict(found)


def test_any_figure_opens_to_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = Release(chosen=-1.9, rejected=-2.2)
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new) as (platform, client):
        found = evaluate(client)
        assert found["state"] == "done", found
        assert found["progress"] is None
        path = f"/api/evals/{found['id']}/items"
        stored = evaluation_items.list_all(platform.db, found["id"])
        assert measures_of([from_json(row) for row in stored]) == found["report"]["measures"]
        page = client.get(path, params={"limit": 5})
        assert [row["number"] for row in page.json()] == [1, 2, 3, 4, 5]
        assert "after=5" in page.headers["Link"]
        answers = client.get(path, params={"measure": "answer", "side": "release"}).json()
        assert len(answers) == 2
        assert all(row["prompt"][0]["content"].startswith("Question") for row in answers)
        assert {row["detail"]["max_tokens"] for row in answers} == {20}, "the release's own limit"
        text = client.get(path, params={"measure": "text", "limit": 1}).json()[0]
        assert text["prompt"][0]["content"]
        assert client.get(path, params={"measure": "taste"}).status_code == 422
        assert client.get("/api/evals/eval-x/items").status_code == 404


def test_the_report_is_one_page_and_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "<script>alert(1)</script> | ``` **x**"
    new = Release(lambda *asked: (hostile, "stop"), chosen=-1.9, rejected=-2.2)
    with measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new) as (_, client):
        found = evaluate(client)
        path = f"/api/evals/{found['id']}/report"
        page = client.get(path + ".html")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text
        assert "http" not in page.text.replace("http-equiv", ""), "it loads nothing"
        for words in (
            "assistant@2 against assistant@1",
            "Health of the answers",
            "Drift",
            "<svg",
            "Question",
        ):
            assert words in page.text
        text = client.get(path + ".md")
        assert text.headers["content-type"].startswith("text/markdown")
        assert f"````text\n{hostile}\n````" in text.text
        assert "| reward accuracy | 1 (" in text.text
        assert client.get("/api/evals/eval-x/report.html").status_code == 404


def test_progress_is_shown_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with measured(tmp_path, monkeypatch, assistant_1=Release()) as (platform, client):
        found = evaluate(client)  # nobody answers for assistant@2
        assert found["state"] == "failed"
        assert "assistant@2" in found["error"]
        assert client.get(f"/api/evals/{found['id']}/report.md").status_code == 409
        assert platform.evaluations.progress == {}
        platform.evaluations.progress[found["id"]] = {"done": 3, "total": 9, "seconds_left": 12.5}
        shown = client.get(f"/api/evals/{found['id']}").json()["progress"]
        assert shown == {"done": 3, "total": 9, "seconds_left": 12.5}


def test_an_unknown_suite_is_refused_before_anything_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with measured(tmp_path, monkeypatch) as (_, client):
        for suite in ("huge", str(tmp_path / "none.toml")):
            refused = client.post("/api/evals", json={"release": "assistant@2", "suite": suite})
            assert refused.status_code == 422
            assert "suite" in refused.text
        assert client.get("/api/evals").json() == []


@contextmanager
def judge() -> Iterator[str]:
    """An OpenAI-compatible judge that prefers the longer answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            shown = body["messages"][0]["content"]
            a, b = (
                re.findall(rf"<answer {name}>\n(.*?)\n</answer {name}>", shown, re.DOTALL)[0] for name in "AB"
            )
            verdict = "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
            choice = {"message": {"role": "assistant", "content": json.dumps({"verdict": verdict})}}
            text = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_judge_is_held_against_the_store_s_votes_and_its_verdicts_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Release(
        lambda prompt, rng, max_tokens: (
            f"A much longer answer with {rng.random()} in it, and more. " * 9,
            "stop",
        )
    )
    with (
        judge() as url,
        measured(tmp_path, monkeypatch, assistant_1=Release(), assistant_2=new) as (platform, client),
    ):
        for n in range(60):
            candidates = [Candidate(content="short"), Candidate(content="rather longer")]
            asked = [{"role": "user", "content": f"Which {n}?"}]
            made = comparisons.create(platform.db, asked, candidates, deployment="assistant", source="rank")
            longer = "a" if made.a.content == "rather longer" else "b"
            comparisons.vote(platform.db, made.id, longer if n % 6 else "ab".replace(longer, ""), "ada")
        suite = tmp_path / "judged.toml"
        suite.write_text(
            '[[measurements]]\nkind = "answers"\ngeneral = 6\n'
            f'[[measurements]]\nkind = "judge"\nurl = "{url}"\nmodel = "m"\n'
        )
        found = evaluate(client, str(suite))
        assert found["state"] == "done", found
        measures = found["report"]["measures"]
        assert measures["judge_win_rate"]["release"]["value"] > 0.5
        stored = [from_json(row) for row in evaluation_items.list_all(platform.db, found["id"])]
        assert measures_of(stored) == measures
        votes = [item for item in stored if item.measure == "judge_vote"]
        assert len(votes) == 60
        assert {item.detail["people"] for item in votes} == {"a", "b"}
        shown = client.get(f"/api/evals/{found['id']}/items", params={"measure": "judge"}).json()
        assert len(shown) == 6
        assert all(row["detail"]["prompt_sha256"] for row in shown)
