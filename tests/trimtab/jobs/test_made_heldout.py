"""The gate on releases that learned from made pairs alone: their rule's win rate on prompts that were kept."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from store.datasets import snapshots
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.jobs import job_parts
from store.jobs.job_parts import Part
from store.rollout import deployments, evaluation_items, releases, runs
from store.rollout.runs import Run
from store.training_data import pairs
from tests.support.stub_releases import WORDS, Release, StubPlatform
from tests.trimtab.jobs.test_make_pairs import BASE, make, no_screens, serving
from trimtab.evaluations import Evaluations
from trimtab.made_heldout import of_snapshot
from trimtab.platform import Platform

PROMPTS = [f"Tell me of {word} and {other}." for word in WORDS for other in ("rain", "sand")]
__all__ = ["no_screens"]


def saying(least: int, most: int) -> Any:
    def answer(prompt: str, rng: random.Random, limit: int) -> tuple[str, str]:
        return f"The {' '.join(rng.sample(WORDS, rng.randint(least, most)))} of this.", "stop"

    return answer


LONG, SHORT = Release(answer=saying(12, 22)), Release(answer=saying(7, 11))
LONGER = Release(answer=saying(23, 30))


def run_of(platform: Platform, method: Any = "dpo") -> Run:
    """A run that trained on all there is and has a release to be measured."""
    snapshot = snapshots.build(platform.db, platform.paths.snapshots, "assistant", method)
    run = runs.create(platform.db, method, "assistant", rollout="promote", requested_by="ada")
    release = releases.create(platform.db, "assistant", BASE, run=run.id, sampling={"max_tokens": 60})
    runs.move(platform.db, run.id, "snapshot")
    runs.move(platform.db, run.id, "training", snapshot=snapshot.hash)
    runs.move(platform.db, run.id, "publishing")
    return runs.move(platform.db, run.id, "evaluating", release=release.id)


def judge(platform: Platform, run: Run, new: Release) -> dict[str, Any]:
    stub = StubPlatform(assistant_1=LONG, assistant_2=new, assistant_3=new)
    evaluations = Evaluations(
        platform.db,
        platform.serving,
        platform.paths,
        platform.settings.gate,
        platform.runner.queue,
        stub.api,
        60,
    )
    return asyncio.run(evaluations.judge(run))


def by_rule(tmp_path: Path, new: Release) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    with serving(tmp_path, LONG.answer) as (platform, client):
        made = make(client, prompts=PROMPTS)
        run = run_of(platform)
        found = judge(platform, run, new)
        evaluation = runs.get(platform.db, run.id).evaluation
        return found, evaluation_items.list_all(platform.db, evaluation or ""), made


def test_a_release_that_wins_by_its_rule_passes_without_a_vote(tmp_path: Path) -> None:
    found, items, made = by_rule(tmp_path, SHORT)
    assert found["verdict"] == "pass", found["reasons"]
    assert "no vote is held out" in found["reasons"][-1]
    (wins,) = (check for check in found["checks"] if check["measure"] == "win_rate")
    assert wins["estimate"]["low"] > 0.5
    kept = [item for item in items if str(item["reference"]).startswith(f"{made['id']}/heldout:")]
    assert {item["measure"] for item in kept} == {"answer", "win"}
    assert len({item["reference"] for item in kept}) == min(24, made["result"]["heldout"])
    assert all(item["prompt"][0]["content"] in PROMPTS for item in kept)


def test_a_release_that_loses_by_its_rule_fails(tmp_path: Path) -> None:
    found, _, _ = by_rule(tmp_path, LONGER)
    assert found["verdict"] == "fail"
    assert found["reasons"][0].startswith("win rate")


def test_pairs_of_a_better_release_alone_are_undecided(tmp_path: Path) -> None:
    with serving(tmp_path, LONG.answer) as (platform, client):
        better = releases.create(platform.db, "assistant", BASE, system_prompt="Be better.")
        make(client, prompts=PROMPTS, rules=None, release=better.ref)
        found = judge(platform, run_of(platform), SHORT)
        assert found["verdict"] == "undecided"
        assert any("win rate was not measured" in reason for reason in found["reasons"])


def test_votes_decide_where_some_are_held_out(tmp_path: Path) -> None:
    with serving(tmp_path, LONG.answer) as (platform, client):
        make(client, prompts=PROMPTS)
        for n in range(12):
            asked = comparisons.create(
                platform.db, f"Voted {WORDS[n]}?", [Candidate("yes it is"), Candidate("no")], "assistant"
            )
            comparisons.vote(platform.db, asked.id, "a" if asked.a.content == "yes it is" else "b", "ada")
        run = run_of(platform)
        directory = platform.paths.run(run.id)
        directory.mkdir(parents=True)
        source = platform.paths.snapshots / str(run.snapshot) / "heldout.parquet"
        (directory / "heldout.parquet").write_bytes(source.read_bytes())
        found = judge(platform, run, Release(answer=SHORT.answer, chosen=-1.0))
        measured = {check["measure"] for check in found["checks"] if check["estimate"]}
        assert "reward_accuracy" in measured
        assert not any("no vote is held out" in reason for reason in found["reasons"])


def test_a_kept_prompt_that_was_trained_on_since_does_not_measure(tmp_path: Path) -> None:
    with serving(tmp_path, LONG.answer) as (platform, client):
        made = make(client, prompts=PROMPTS)
        kept = job_parts.kept(platform.db, made["id"], "heldout:")
        first = next(iter(kept.values()))[0]["content"]
        asked = comparisons.create(
            platform.db, first.upper(), [Candidate("x y"), Candidate("z")], "assistant"
        )
        comparisons.vote(platform.db, asked.id, "a", "ada")
        run = run_of(platform)
        assert run.snapshot is not None
        assert snapshots.get(platform.db, run.snapshot).heldout_rows == 0
        judge(platform, run, SHORT)
        evaluation = runs.get(platform.db, run.id).evaluation
        items = evaluation_items.list_all(platform.db, evaluation or "")
        assert first not in {item["prompt"][0]["content"] for item in items if item["prompt"]}


def test_a_kept_prompt_that_is_nearly_a_training_prompt_does_not_measure(tmp_path: Path) -> None:
    with serving(tmp_path, LONG.answer) as (platform, client):
        made = make(client, prompts=PROMPTS)
        run = run_of(platform)
        assert run.snapshot is not None
        taught = pairs.list_page(platform.db, 1)[0].pair.prompt[0].content
        key, value = next(iter(job_parts.kept(platform.db, made["id"], "heldout:").items()))
        alike = [{"role": "user", "content": f"{taught} {taught}"}]
        job_parts.keep(platform.db, made["id"], [Part(key, alike)])
        kept = {row["prompt_id"] for row in of_snapshot(platform.db, run.snapshot).rows}  # type: ignore[union-attr]
        assert f"{made['id']}/{key}" not in kept
        assert len(kept) == made["result"]["heldout"] - 1
        job_parts.keep(platform.db, made["id"], [Part(key, value)])
        again = of_snapshot(platform.db, run.snapshot)
        assert again is not None
        assert len(again.rows) == made["result"]["heldout"]


def test_such_a_release_can_be_measured_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, LONG.answer) as (platform, client):
        make(client, prompts=PROMPTS)
        run_of(platform)
        stub = StubPlatform(assistant_1=LONG, assistant_2=SHORT)
        monkeypatch.setattr(platform.evaluations, "_chat_api", stub.api)
        body = {
            "release": "assistant@2",
            "against": deployments.get(platform.db, "assistant").stable,
            "suite": "quick",
        }
        asked = client.post("/api/evals", json=body)
        assert asked.status_code == 202, asked.text
        found = asked.json()
        while found["state"] in ("queued", "running"):
            found = client.get(f"/api/evals/{found['id']}").json()
        assert found["state"] == "done", found
        assert found["report"]["measures"]["win_rate"]["release"]["value"] > 0.8


def test_an_erasure_takes_the_answers_to_a_kept_prompt(tmp_path: Path) -> None:
    with serving(tmp_path, LONG.answer) as (platform, client):
        made = make(client, prompts=PROMPTS)
        run = run_of(platform)
        judge(platform, run, SHORT)
        evaluation = str(runs.get(platform.db, run.id).evaluation)
        asked_about = next(
            str(item["reference"]).partition("/")[2]
            for item in evaluation_items.list_all(platform.db, evaluation)
            if "/heldout:" in str(item["reference"])
        )
        value = job_parts.kept(platform.db, made["id"], asked_about)[asked_about]
        job_parts.keep(platform.db, made["id"], [Part(asked_about, value, owners=["user zoe"])])
        assert client.post("/api/erasures", json={"name": "zoe"}).is_success
        left = {item["reference"] for item in evaluation_items.list_all(platform.db, evaluation)}
        assert f"{made['id']}/{asked_about}" not in left
        assert len(left) > 10
