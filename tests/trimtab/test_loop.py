"""Transitions of the loop that need no engine: each may be run again and changes nothing the second time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from align.recipe.recipe import resolve
from align.run_directory import EXIT_STOPPED, RunDirectory, RunSpec
from store.accounts import audit
from store.datasets import snapshots
from store.errors import Conflict, Invalid
from store.privacy import erasure
from store.rollout import deployments, releases, runs
from store.rollout.adapters import AdapterRecord
from store.rollout.runs import Run
from store.training_data import demonstrations, likes, pairs
from tests.trimtab.conftest import BASE, judged
from trimtab import loop
from trimtab.config.settings import Settings
from trimtab.config.training_sections import ScheduleSettings
from trimtab.platform import Platform
from trimtab.start_run import ScheduledRuns, start_run


@pytest.mark.parametrize(
    ("rollout", "found", "gate", "on_undecided", "state"),
    [
        ("none", "pass", "enforce", "canary", "published"),
        ("canary", "pass", "enforce", "canary", "canary"),
        ("promote", "pass", "enforce", "canary", "stable"),
        ("promote", "fail", "enforce", "canary", "rejected"),
        ("promote", "fail", "report", "canary", "stable"),
        ("promote", "undecided", "enforce", "canary", "canary"),
        ("canary", "undecided", "enforce", "canary", "canary"),
        ("none", "undecided", "enforce", "canary", "published"),
        ("promote", "undecided", "enforce", "ask", "published"),
        ("canary", "undecided", "enforce", "ask", "published"),
        ("promote", "undecided", "enforce", "reject", "rejected"),
        ("promote", "undecided", "report", "reject", "stable"),
    ],
)
def test_the_gate_and_the_rollout_decide_where_a_run_ends(
    platform: Platform, rollout: str, found: str, gate: str, on_undecided: str, state: str
) -> None:
    gates = platform.settings.gate.model_copy(update={"on_undecided": on_undecided})
    parts = replace(platform.loop, settings=platform.settings.model_copy(update={"gate": gates}))
    run = judged(platform, rollout, found, gate)
    ended = asyncio.run(loop.evaluate(parts, run))
    assert ended.state == state
    deployment = deployments.get(platform.db, "assistant")
    assert (deployment.stable == run.release) == (state == "stable")
    assert (deployment.canary == run.release) == (state == "canary")


@pytest.mark.parametrize(("compared", "state"), [(False, "canary"), (True, "stable")])
def test_demonstrations_reach_stable_only_where_answers_were_compared(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, compared: bool, state: str
) -> None:
    """That demonstrations became likelier makes a canary of it: votes or an operator decide the rest."""
    rows = [{"prompt": f"Question {n}?", "completion": f"yes {n}"} for n in range(12)]
    demonstrations.import_rows(platform.db, rows, "test")
    made = snapshots.build(platform.db, platform.paths.snapshots, "assistant", "sft", 0.3)
    run = runs.create(platform.db, "sft", "assistant", rollout="promote")
    release = releases.create(platform.db, "assistant", BASE, run=run.id)
    for moved in ("snapshot", "training", "publishing"):
        runs.move(platform.db, run.id, moved)
    run = runs.move(platform.db, run.id, "evaluating", release=release.id, snapshot=made.id)
    good = {"low": 0.6, "value": 0.7, "high": 0.8, "n": 40}
    measures: dict[str, Any] = {
        **{name: {"release": good} for name in ("length_ratio", "perplexity_ratio")},
        **{
            name: {"difference": good | {"low": 0.0, "value": 0.0, "high": 0.1}}
            for name in ("rep4", "cut_share")
        },
        "kl": {"release": good | {"low": 0.1, "value": 0.1, "high": 0.2}},
        "refusal_share": {"difference": good | {"low": 0.0, "value": 0.0, "high": 0.1}},
        "empty_share": {"release": good | {"low": 0.0, "value": 0.0, "high": 0.1}},
        "chosen_logp_per_token": {"difference": good},
    }
    if compared:
        measures["win_rate"] = {"release": good}

    async def report(*_: object, **__: object) -> dict[str, Any]:
        return {"measures": measures}

    monkeypatch.setattr(platform.evaluations, "_run_suite", report)
    ended = asyncio.run(loop.evaluate(platform.loop, run))
    decision = ended.gate_decision or {}
    assert (ended.state, decision["verdict"]) == (state, "pass"), decision["reasons"]
    assert ("until votes or an operator decide" in decision["reasons"][-1]) == (not compared)


@pytest.mark.parametrize("rollout", ["canary", "promote"])
def test_a_rollout_that_was_cut_short_is_not_done_twice(platform: Platform, rollout: str) -> None:
    run = judged(platform, rollout)

    async def killed_in_between() -> Run:
        await platform.rollout.apply(run, {"canary": "canary", "promote": "stable"}[rollout])
        return await loop.evaluate(platform.loop, run)

    ended = asyncio.run(killed_in_between())
    assert ended.state == {"canary": "canary", "promote": "stable"}[rollout]
    history = deployments.history(platform.db, "assistant")
    assert len([row for row in history if run.release in str(row)]) == 1


def test_operator_decisions_move_the_run(platform: Platform) -> None:
    run = judged(platform, "canary")
    name = releases.get(platform.db, str(run.release)).ref

    async def decide() -> list[str]:
        await loop.evaluate(platform.loop, run)
        states = []
        await platform.rollout.promote("assistant", None, "ada")
        states.append(runs.get(platform.db, run.id).state)
        await platform.rollout.rollback("assistant", "ada")
        states.append(runs.get(platform.db, run.id).state)
        await platform.rollout.set_canary("assistant", name, 0.5, "ada")
        states.append(runs.get(platform.db, run.id).state)
        return states

    assert asyncio.run(decide()) == ["stable", "rolled_back", "canary"]


def test_run_uses_the_system_prompt_of_stable_for_rows_without_one(platform: Platform) -> None:
    options = {"enable_thinking": False}
    release = releases.create(
        platform.db, "assistant", BASE, system_prompt="Be brief.", sampling={"chat_template_kwargs": options}
    )
    deployments.promote(platform.db, "assistant", "ada", release=release.id)
    pairs.import_rows(platform.db, [{"prompt": "One?", "chosen": "yes", "rejected": "no"}], "test")
    run = runs.create(platform.db, "dpo", "assistant")
    asyncio.run(loop.take_snapshot(platform.loop, runs.move(platform.db, run.id, "snapshot")))
    spec = RunDirectory(platform.paths.run(run.id)).spec()
    assert (spec.system_prompt, spec.chat_template_kwargs) == ("Be brief.", options)


def test_a_rejected_release_is_forced_with_a_reason_alone(platform: Platform) -> None:
    run = judged(platform, "promote", "fail")
    name = releases.get(platform.db, str(run.release)).ref

    async def force() -> None:
        await loop.evaluate(platform.loop, run)
        for reason in (None, "  "):
            with pytest.raises(Invalid, match="reason"):
                await platform.rollout.promote("assistant", name, "ada", reason)
            with pytest.raises(Invalid, match="reason"):
                await platform.rollout.set_canary("assistant", name, 0.1, "ada", reason)
        assert runs.get(platform.db, run.id).state == "rejected"
        assert deployments.get(platform.db, "assistant").canary is None
        await platform.rollout.promote("assistant", name, "ada", "the votes are a joke of last night")

    asyncio.run(force())
    assert runs.get(platform.db, run.id).state == "stable"
    (forced,) = [row for row in audit.list_recent(platform.db) if row.action == "deployment.force"]
    assert (forced.actor, forced.subject) == ("ada", "assistant")
    assert forced.detail == {
        "release": name,
        "reason": "the votes are a joke of last night",
        "as": "promote",
    }


def test_replaced_canary_becomes_published_again(platform: Platform) -> None:
    first, second = judged(platform, "canary"), judged(platform, "canary")

    async def both() -> None:
        await loop.evaluate(platform.loop, first)
        await loop.evaluate(platform.loop, second)

    asyncio.run(both())
    assert deployments.get(platform.db, "assistant").canary == second.release
    assert [runs.get(platform.db, run.id).state for run in (first, second)] == ["published", "canary"]


def test_a_waiting_canary_does_not_block_the_schedule(platform: Platform) -> None:
    waiting, under_way = judged(platform, "canary"), judged(platform, "canary")
    asyncio.run(loop.evaluate(platform.loop, waiting))
    assert [run.id for run in runs.under_way(platform.db)] == [under_way.id]
    asyncio.run(loop.evaluate(platform.loop, under_way))
    schedule = platform.scheduler.schedules[0]
    assert asyncio.run(schedule.runs.active()) is False


def test_a_schedule_counts_the_rows_of_its_method_and_names_its_recipe(platform: Platform) -> None:
    plan = ScheduleSettings(every_pairs=2, method="kto", recipe="thumbs", deployment="assistant")
    scheduled = ScheduledRuns(platform.db, platform.runner, plan)
    pairs.import_rows(platform.db, [{"prompt": "One?", "chosen": "yes", "rejected": "no"}], "test")
    assert asyncio.run(scheduled.new_rows()) == 0
    liked = [{"prompt": f"{n}?", "completion": "yes", "label": n > 1} for n in range(3)]
    likes.import_rows(platform.db, liked, "test")
    assert asyncio.run(scheduled.new_rows()) == 3

    async def started() -> Run:
        await scheduled.start("3 new likes (every 2)")
        return runs.list_all(platform.db)[0]

    run = asyncio.run(started())
    assert (run.method, run.recipe, run.deployment) == ("kto", "thumbs", "assistant")
    assert run.requested_by == "schedule: 3 new likes (every 2)"


def test_a_run_of_another_deployment_does_not_hold_a_schedule_up(platform: Platform) -> None:
    judged(platform, "none")
    for deployment, active in (("assistant", True), ("poet", False)):
        plan = ScheduleSettings(every_pairs=1, deployment=deployment)
        assert asyncio.run(ScheduledRuns(platform.db, platform.runner, plan).active()) is active


def test_slow_decline_is_measured_against_what_an_operator_approved(platform: Platform) -> None:
    first = deployments.get(platform.db, "assistant").stable
    assert deployments.anchor(platform.db, "assistant").id == first
    automatic, approved = judged(platform, "promote"), judged(platform, "none")
    asyncio.run(loop.evaluate(platform.loop, automatic))
    assert deployments.get(platform.db, "assistant").stable == automatic.release
    assert deployments.anchor(platform.db, "assistant").id == first, "nobody approved it"
    asyncio.run(loop.evaluate(platform.loop, approved))
    asyncio.run(platform.rollout.promote("assistant", approved.release, "ada"))
    asyncio.run(loop.evaluate(platform.loop, judged(platform, "promote")))
    assert deployments.anchor(platform.db, "assistant").id == approved.release


def test_a_run_without_data_is_refused_and_leaves_nothing(platform: Platform) -> None:
    with pytest.raises(Conflict, match="nothing to train on"):
        asyncio.run(start_run(platform.db, platform.runner, method="sft", deployment="assistant"))
    assert runs.list_all(platform.db) == []


def test_a_run_that_fails_says_why_and_can_be_resumed(platform: Platform) -> None:
    pairs.import_rows(platform.db, [{"prompt": "One?", "chosen": "yes", "rejected": "no"}], "test")
    excluded = Settings.model_validate(
        platform.settings.model_dump()
        | {"snapshot": {"min_weight": 1.0, "ties": "discount", "max_per_prompt": 1}}
    )
    platform.runner.steps = replace(platform.loop, settings=excluded).steps()

    async def drive() -> list[Run]:
        run = runs.create(platform.db, "sft", "assistant")
        platform.runner.submit(run.id)
        seen = []
        for _ in range(1500):
            await asyncio.sleep(0.02)
            if (now := runs.get(platform.db, run.id)).state == "failed":
                seen.append(now)
                break
        seen.append(await platform.runner.resume(run.id))
        await platform.runner.queue.aclose()
        return seen

    failed, resumed = asyncio.run(drive())
    assert failed.error is not None
    assert failed.error["kind"] == Invalid.__name__
    assert "demonstrations" in failed.error["message"]
    assert resumed.state == "queued"
    assert resumed.error is None


def test_a_run_that_is_cancelled_while_its_worker_still_imports_ends_as_any_other(platform: Platform) -> None:
    run = runs.create(platform.db, "dpo", "assistant")
    directory = RunDirectory(platform.paths.run(run.id))
    directory.path.mkdir(parents=True)
    directory.train.touch()
    directory.write(RunSpec("dpo", str(platform.paths.models / BASE), resolve("dpo").to_dict(), "s-none"))
    for state in ("snapshot", "training"):
        runs.move(platform.db, run.id, state)

    async def drive() -> Run:
        await platform.loop.workers.warm()
        waiting = platform.loop.workers._waiting
        assert waiting is not None
        while "/torch/" not in Path(f"/proc/{waiting.pid}/maps").read_text():
            await asyncio.sleep(0.02)
        platform.runner.submit(run.id)
        while platform.loop.workers._waiting is not None:
            await asyncio.sleep(0.01)
        asked = time.monotonic()
        ended = await platform.runner.cancel(run.id)
        assert time.monotonic() - asked < 60
        assert waiting.returncode == EXIT_STOPPED
        return ended

    ended = asyncio.run(drive())
    assert (ended.state, ended.error) == ("cancelled", None)
    assert [row["phase"] for row in directory.progress()] == ["stopped"]


def test_a_person_erased_during_publishing_is_not_named_by_the_release(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.create(platform.db, "dpo", "assistant", requested_by="ada")
    for state in ("snapshot", "training"):
        runs.move(platform.db, run.id, state)
    run = runs.move(platform.db, run.id, "publishing")
    directory = RunDirectory(platform.paths.run(run.id)).path
    directory.mkdir(parents=True)
    (directory / "probe.json").write_text('{"token_ids": [], "logprobs": {}}')

    async def publish(*_: Any) -> SimpleNamespace:
        erasure.erase_person(platform.db, "ada")
        return SimpleNamespace(name="a-0000000000000001")

    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(platform.serving, "publish", publish)
    monkeypatch.setattr(platform.serving, "wait_ready", nothing)
    monkeypatch.setattr(platform.serving, "refresh", nothing)
    monkeypatch.setattr(
        platform.serving,
        "adapter_record",
        lambda done, base, run: AdapterRecord(done.name, base, "nowhere", run=run),
    )
    ended = asyncio.run(loop.publish(platform.loop, run))
    assert releases.get(platform.db, str(ended.release)).created_by == ended.requested_by != "ada"
