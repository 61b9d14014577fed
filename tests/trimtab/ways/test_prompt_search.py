from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from align.evaluation.suite import read_rows
from align.prompts.candidates import Candidate as PromptCandidate
from align.prompts.candidates import Example
from align.prompts.search import without_context
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.jobs import job_parts
from store.rollout import release_examples, releases
from tests.trimtab.conftest import problem
from tests.trimtab.ways.conftest import Running, behave, opened, said
from trimtab.ways.job_answers import hash_of
from trimtab.ways.prompt_search import make_release

RULES = {"rules": [{"rule": "max_sentences", "value": 2}], "prefer": "shorter"}
SEARCH = "/api/prompts/search"
FEW = {"built_in": False, "candidates": ["Answer in verse.", "Answer in at most two sentences.", "Be brave."]}


def test_the_best_prompt_becomes_a_release_and_is_tested_on_held_out_requests(running: Running) -> None:
    asked = running.client.post(
        SEARCH, json={"rules": RULES, "shots": [0, 2], "candidates": ["Answer in verse."]}
    )
    found = running.ended(asked)
    assert found["state"] == "done", found
    result = found["result"]
    assert result["by"] == "rules"
    assert result["release"] == "assistant@2"
    assert set(result["releases"]) == {"prompt", "few-shot"}
    made = releases.get(running.platform.db, result["releases"]["prompt"])
    assert made.system_prompt == "Answer in at most two sentences."
    assert made.adapter is None
    assert running.client.get("/api/deployments/assistant").json()["stable"] == "assistant@1", "no traffic"
    win = result["test"]["models"]["prompt"]["measures"]["win_rate"]["release"]
    assert win["value"] == 1.0
    assert win["low"] > 0.5
    assert win["n"] == result["test_prompts"]
    stages = [one["stage"] for one in result["rounds"]]
    assert stages[0] == "instructions"
    assert stages[-1] == "examples"
    assert job_parts.kept(running.platform.db, found["id"], "answer:") == {}


def test_development_test_and_examples_share_no_request(running: Running) -> None:
    found = running.ended(running.client.post(SEARCH, json={**FEW, "rules": RULES, "shots": [0, 2]}))
    snapshot = running.platform.paths.snapshots / found["params"]["snapshot"]
    heldout = {row["prompt"][0]["content"] for row in read_rows(snapshot / "heldout.parquet")}
    searched = [
        body for body in running.stub.generated if body["messages"][0]["role"] == "system" and "seed" in body
    ]
    judged = {
        body["messages"][-1]["content"] for body in searched if body["model"] == found["result"]["against"]
    }
    assert judged
    assert not judged & heldout
    quoted = release_examples.counts(running.platform.db)
    (few,) = quoted
    prompt = releases.get(running.platform.db, few).system_prompt or ""
    assert "Assistant: yes" in prompt
    assert not any(question in prompt for question in judged | heldout)


def test_votes_decide_where_no_rules_are_given(running: Running) -> None:
    found = running.ended(running.client.post(SEARCH, json=FEW))
    assert found["result"]["by"] == "votes"
    assert running.stub.generated == []
    made = releases.get(running.platform.db, found["result"]["release"])
    assert made.system_prompt == "Answer in at most two sentences."
    assert "reward_accuracy" in found["result"]["test"]["models"]["prompt"]["measures"]


def test_no_release_is_made_where_no_prompt_is_better(running: Running) -> None:
    before = len(releases.list_all(running.platform.db, "assistant"))
    running.stub.behave = lambda system: behave("")
    found = running.ended(running.client.post(SEARCH, json=FEW))
    assert found["result"]["winner"] is None
    assert found["result"]["release"] is None
    assert len(releases.list_all(running.platform.db, "assistant")) == before


def test_examples_become_a_release_for_comparing_where_only_the_prompt_is_better(running: Running) -> None:
    running.stub.behave = lambda system: said(9) if "Assistant:" in system else behave(system)
    found = running.ended(running.client.post(SEARCH, json={**FEW, "rules": RULES, "shots": [0, 2]}))[
        "result"
    ]
    of_kind = {bool(one["shots"]): one["development"]["value"] for one in found["best"]}
    assert of_kind[True] < 0.5 < of_kind[False]
    assert set(found["releases"]) == {"prompt", "few-shot"}
    assert found["release"] == found["releases"]["prompt"], "the better one"
    shown = releases.get(running.platform.db, found["releases"]["few-shot"])
    assert "Assistant:" in (shown.system_prompt or "")
    assert running.client.get("/api/deployments/assistant").json()["stable"] == "assistant@1", "no traffic"


def test_a_search_that_was_cut_short_goes_on_with_what_it_has(running: Running) -> None:
    running.stub.fail_after = 40
    body = {**FEW, "rules": RULES}
    failed = running.ended(running.client.post(SEARCH, json=body))
    assert failed["state"] == "failed"
    kept = job_parts.kept(running.platform.db, failed["id"], "answer:")
    assert 0 < len(kept) <= 40
    running.stub.fail_after = None
    running.stub.generated.clear()
    again = running.ended(running.client.post(SEARCH, json=body))
    assert again["id"] == failed["id"], "the same request goes on with the same job"
    assert again["state"] == "done", again
    names = [(b["model"], str(b["messages"])) for b in running.stub.generated if not b.get("stream")]
    assert len(names) == len(set(names))
    whole = again["result"]["rounds"]
    assert whole[-1]["prompts"] == again["result"]["development_prompts"]


def test_requests_of_an_operator_do_where_there_is_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "data", monkeypatch, with_snapshot=False) as running:
        refused = problem(running.client.post(SEARCH, json={"rules": RULES}), 422)
        assert refused["field"] == "requests"
        requests = [f"What is number {n}?" for n in range(40)]
        found = running.ended(
            running.client.post(SEARCH, json={**FEW, "rules": RULES, "requests": requests, "shots": [0, 4]})
        )
        assert found["state"] == "done", found
        result = found["result"]
        assert result["examples"] == 0
        assert result["development_prompts"] + result["test_prompts"] == 40
        assert set(result["releases"]) == {"prompt"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"shots": [0, 99]}, "shots"),
        ({"candidates": [" "]}, "candidates"),
        ({"rules": {"rules": [{"rule": "max_sentences", "value": 2}], "prefer": "better"}}, "rules.prefer"),
        ({"built_in": False}, "candidates"),
        ({"suite": "quick"}, "suite"),
        ({"prompts": 1}, "prompts"),
        ({"write_with": {"model": "m", "url": "ftp://x"}}, "write_with.url"),
    ],
)
def test_bad_input_names_the_field(running: Running, body: dict[str, Any], field: str) -> None:
    refused = problem(running.client.post(SEARCH, json=body), 422)
    assert refused["field"] == field
    assert running.client.get("/api/jobs").json() == []


def test_an_unknown_deployment_is_refused(running: Running) -> None:
    problem(running.client.post(SEARCH, json={"deployment": "nobody"}), 404)


def test_an_erasure_takes_examples_out_of_a_release(running: Running) -> None:
    db = running.platform.db
    for who, question in (("zebulon", "Where do I live?"), ("ada", "How far is the moon?")):
        answers = [Candidate(content="Far away."), Candidate(content="I cannot say that.")]
        made = comparisons.create(
            db,
            [{"role": "user", "content": question}],
            answers,
            deployment="assistant",
            asked_by=who,
            source="typed",
        )
        comparisons.vote(db, made.id, "a", "bob")
    quoted = [
        Example("Where do I live?", "Far away.", "pair-1"),
        Example("How far is the moon?", "Far away.", "pair-2"),
    ]
    plain = releases.get(db, "assistant@1")
    release = make_release(db, PromptCandidate("own", "Be brief.", tuple(quoted)), plain, "ada")
    assert "Where do I live?" in (release.system_prompt or "")
    done = running.client.post("/api/erasures", json={"name": "zebulon"})
    assert done.is_success, done.text
    assert [row["ref"] for row in done.json()["releases"]] == [release.ref]
    lineage = running.client.get(f"/api/releases/{release.ref}/lineage").json()
    assert lineage["examples"] == ["pair-2"]
    prompt = releases.get(db, release.id).system_prompt
    assert (
        prompt == "Be brief.\n\nExamples of good answers:\n\nUser: How far is the moon?\nAssistant: Far away."
    )
    assert release_examples.counts(db) == {release.id: 1}
    table = running.platform.serving.reconciler.router.table
    assert table.resolve(release.ref, "").system_prompt == prompt


def test_an_erasure_takes_requests_out_of_a_search(running: Running) -> None:
    db = running.platform.db
    answers = [Candidate(content="Far away."), Candidate(content="I cannot say that.")]
    asked = [{"role": "user", "content": "Where do I live?"}]
    comparisons.create(db, asked, answers, deployment="assistant", asked_by="zebulon", source="typed")
    body = {**FEW, "rules": RULES, "requests": ["Where do I live?", *(f"What is {n}?" for n in range(9))]}
    found = running.ended(running.client.post(SEARCH, json=body))
    assert found["state"] == "done", found
    kept = job_parts.kept(db, found["id"], "prompt:")
    assert [part[0]["content"] for part in kept.values()] == body["requests"]
    assert running.client.post("/api/erasures", json={"name": "zebulon"}).is_success
    left = job_parts.kept(db, found["id"], "prompt:")
    assert [part[0]["content"] for part in left.values()] == body["requests"][1:]


@contextmanager
def shorter_is_better() -> Iterator[tuple[str, list[str]]]:
    """An OpenAI-compatible judge that prefers the shorter answer; what it was asked, without its order."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            shown = body["messages"][0]["content"]
            asked.append(shown)
            a, b = (
                re.findall(rf"<answer {name}>\n(.*?)\n</answer {name}>", shown, re.DOTALL)[0] for name in "AB"
            )
            verdict = "tie" if len(a) == len(b) else "A" if len(a) < len(b) else "B"
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
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_judge_scores_and_is_not_asked_twice(running: Running, tmp_path: Path) -> None:
    with shorter_is_better() as (url, asked):
        suite = tmp_path / "judged.toml"
        suite.write_text(f'[[measurements]]\nkind = "judge"\nurl = "{url}"\nmodel = "m"\nvoted = 0\n')
        body = {**FEW, "suite": str(suite)}
        running.stub.fail_after = 70
        assert running.ended(running.client.post(SEARCH, json=body))["state"] == "failed"
        before = len(asked)
        running.stub.fail_after = None
        found = running.ended(running.client.post(SEARCH, json=body))
        assert found["state"] == "done", found
        assert found["result"]["by"] == "judge"
        assert (
            releases.get(running.platform.db, found["result"]["release"]).system_prompt
            == FEW["candidates"][1]
        )
        measures = found["result"]["test"]["models"]["prompt"]["measures"]
        assert "unproven" in measures["judge_win_rate"], "no votes say that it is right"
        again = set(asked[:before]) & set(asked[before:])
        assert before > 20
        assert len(again) <= 8, "verdicts from before the fault are kept, but for those in flight"


def test_answers_to_prompts_with_a_system_message_are_erased_with_the_whole_prompt() -> None:
    whole = [{"role": "system", "content": "You are my doctor."}, {"role": "user", "content": "Am I ill?"}]
    row = without_context({"prompt": whole})
    assert row == {"prompt": whole[1:], "whole_prompt": whole}
    body = {"messages": [{"role": "system", "content": "Be brief."}, *whole[1:]]}
    assert hash_of(body) == hash_of({"messages": whole[1:]})
    assert without_context({"prompt": whole[1:]}) == {"prompt": whole[1:]}
