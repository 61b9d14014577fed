"""Transitions of the loop that need no engine: each may be run again and changes nothing the second time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
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
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.privacy import erasure
from store.rollout import canary_votes, deployments, releases, runs
from store.rollout.adapters import AdapterRecord
from store.rollout.runs import Run
from store.training_data import demonstrations, likes, pairs
from trimtab import loop
from trimtab.app import build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.config.training_sections import ScheduleSettings
from trimtab.platform import Platform
from trimtab.rollout.weighing import Trial, weigh_canary
from trimtab.start_run import ScheduledRuns, start_run

BASE = "smollm2-135m-instruct"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=tmp_path / "data", engines=engines), "http://127.0.0.1:7860")
    yield platform
    platform.db.close()


def judged(platform: Platform, rollout: str, found: str = "pass", gate: str = "enforce") -> Run:
    """A run in `evaluating` whose release exists and whose gate has spoken."""
    run = runs.create(platform.db, "dpo", "assistant", rollout=rollout, gate=gate, requested_by="ada")
    release = releases.create(platform.db, "assistant", BASE, run=run.id)
    for state in ("snapshot", "training", "publishing"):
        runs.move(platform.db, run.id, state)
    verdict = {"passed": found == "pass", "verdict": found, "reasons": [], "mode": gate}
    return runs.move(platform.db, run.id, "evaluating", release=release.id, gate_decision=verdict)


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

    async def report(*_: object) -> dict[str, Any]:
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


def vote(
    platform: Platform,
    better: str,
    worse: str,
    times: int,
    source: str = "pair",
    rater: str | None = None,
    question: str = "question {}",
) -> None:
    for number in range(times):
        candidates = [Candidate(f"good {number}", better), Candidate(f"poor {number}", worse)]
        made = comparisons.create(
            platform.db, question.format(number), candidates, deployment="assistant", source=source
        )
        choice = "a" if made.a.release == better else "b"
        comparisons.vote(platform.db, made.id, choice, rater or f"rater {number % 3}")


@pytest.mark.parametrize("canary_wins", [True, False])
def test_votes_promote_or_roll_back_a_canary(platform: Platform, canary_wins: bool) -> None:
    run = judged(platform, "canary")
    asyncio.run(loop.evaluate(platform.loop, run))
    before = deployments.get(platform.db, "assistant")
    canary = before.canary
    assert canary is not None
    better, worse = (canary, before.stable) if canary_wins else (before.stable, canary)
    vote(platform, better, worse, platform.settings.canary.min_votes - 1)
    asyncio.run(platform.rollout.weigh_votes("assistant"))
    assert deployments.get(platform.db, "assistant") == before, "a vote too few"
    vote(platform, better, worse, 1)

    async def twice() -> None:
        await asyncio.gather(*(platform.rollout.weigh_votes("assistant") for _ in range(2)))

    asyncio.run(twice())
    after = deployments.get(platform.db, "assistant")
    assert after.canary is None
    assert after.stable == (canary if canary_wins else before.stable)
    assert runs.get(platform.db, run.id).state == ("stable" if canary_wins else "rolled_back")
    (last, *_) = audit.list_recent(platform.db)
    assert (last.actor or "").startswith("votes: ")
    assert last.detail["evidence"]["blocks"] >= 8
    assert last.detail["evidence"]["raters_it_hangs_on"] == 0


def test_votes_of_an_earlier_canary_do_not_count(platform: Platform) -> None:
    release = releases.create(platform.db, "assistant", BASE, system_prompt="Be brief.")
    stable = deployments.get(platform.db, "assistant").stable
    deployments.set_canary(platform.db, "assistant", release.ref, 0.1)
    vote(platform, stable, release.id, 3)
    deployments.set_canary(platform.db, "assistant", release.ref, 0.5)
    found = canary_votes.of_canary(platform.db, "assistant")
    assert found is not None
    assert (found.wins, found.losses) == (0, 3), "another weight is the same canary"
    deployments.rollback(platform.db, "assistant")
    deployments.set_canary(platform.db, "assistant", release.ref, 0.1)
    found = canary_votes.of_canary(platform.db, "assistant")
    assert found is not None
    assert (found.wins, found.losses) == (0, 0)


def on_trial(platform: Platform) -> tuple[str, str]:
    """A canary and its stable release."""
    asyncio.run(loop.evaluate(platform.loop, judged(platform, "canary")))
    found = deployments.get(platform.db, "assistant")
    assert found.canary is not None
    return found.canary, found.stable


def trial_of(platform: Platform, **policy: Any) -> Trial:
    canary = platform.settings.canary.model_copy(update=policy)
    platform.rollout.policy = canary
    found = weigh_canary(platform.db, "assistant", canary, ("troll",))
    assert found is not None
    return found


@pytest.mark.parametrize("source", ["typed", "rank", "named", "eval"])
def test_only_comparisons_sampled_from_traffic_decide(platform: Platform, source: str) -> None:
    canary, stable = on_trial(platform)
    vote(platform, canary, stable, 31, source)
    asyncio.run(platform.rollout.weigh_votes("assistant"))
    assert deployments.get(platform.db, "assistant").canary == canary
    trial = trial_of(platform)
    assert (trial.duel.wins, trial.duel.others, trial.evidence.blocks) == (0, 31, 0)


def test_a_drawn_prompt_and_a_comparison_decide_once(platform: Platform) -> None:
    canary, stable = on_trial(platform)
    vote(platform, canary, stable, 40, "drawn", question="the same question")
    assert (trial_of(platform).duel.wins, trial_of(platform).duel.others) == (1, 39)
    candidates = [Candidate("good", canary), Candidate("poor", stable)]
    made = comparisons.create(
        platform.db, "Q", candidates, deployment="assistant", source="pair", votes_wanted=2
    )
    for rater in ("ada", "bob"):
        comparisons.vote(platform.db, made.id, "tie", rater)
    assert trial_of(platform).duel.ties == 1


def test_excluded_raters_and_those_who_fail_gold_decide_nothing(platform: Platform) -> None:
    canary, stable = on_trial(platform)
    vote(platform, canary, stable, 20, rater="troll")
    for number in range(10):
        good, bad = Candidate(f"right {number}"), Candidate(f"wrong {number}")
        made = comparisons.create(platform.db, f"gold {number}", [good, bad], "assistant", gold="first")
        comparisons.vote(platform.db, made.id, "a" if made.gold == "b" else "b", "careless")
    vote(platform, canary, stable, 20, rater="careless")
    vote(platform, canary, stable, 3, rater="ada")
    trial = trial_of(platform)
    assert {"troll", "careless"} <= set(trial.left_out)
    assert trial.duel.wins == 3


def test_votes_do_not_promote_a_canary_that_an_operator_ended(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's decision comes between weighing and what follows from it."""
    canary, stable = on_trial(platform)
    vote(platform, canary, stable, 40)
    change = platform.serving.change

    async def too_late(function: Any, *args: Any, **kwargs: Any) -> Any:
        if "evidence" in kwargs:
            monkeypatch.setattr(platform.serving, "change", change)
            await platform.rollout.rollback("assistant", "ada")
        return await change(function, *args, **kwargs)

    monkeypatch.setattr(platform.serving, "change", too_late)
    asyncio.run(platform.rollout.weigh_votes("assistant"))
    after = deployments.get(platform.db, "assistant")
    assert (after.stable, after.canary) == (stable, None)


def test_votes_do_not_roll_back_a_canary_that_an_operator_promoted(platform: Platform) -> None:
    canary, _ = on_trial(platform)

    async def promoted_meanwhile() -> None:
        await platform.rollout.promote("assistant", None, "ada")
        await platform.rollout.withdraw("assistant", canary, "alarm: too late")

    asyncio.run(promoted_meanwhile())
    assert deployments.get(platform.db, "assistant").stable == canary


@pytest.mark.parametrize(
    ("on_max", "state"),
    [("keep_stable", "rolled_back"), ("promote_if_not_worse", "rolled_back"), ("ask", "canary")],
)
def test_trial_ends_after_its_days(platform: Platform, on_max: str, state: str) -> None:
    canary, stable = on_trial(platform)
    vote(platform, canary, stable, 4)
    assert trial_of(platform, on_max=on_max, max_days=30).ended is None
    trial = trial_of(platform, on_max=on_max, max_days=1e-9)
    assert trial.ended == "max_days"
    assert trial.evidence.verdict is None
    asyncio.run(platform.rollout.weigh_votes("assistant"))
    found = releases.get(platform.db, canary)
    assert runs.get(platform.db, str(found.run)).state == state


def test_a_trial_ends_after_its_votes_and_may_promote_what_is_not_worse(platform: Platform) -> None:
    canary, stable = on_trial(platform)
    for number in range(150):  # ten ties to each win and loss: equal, and proven to be
        better, worse = ((canary, stable), (stable, canary))[number % 2]
        vote(platform, better, worse, 1, rater="ada", question=f"question {number}")
    trial = trial_of(platform, on_max="promote_if_not_worse", max_votes=150, not_worse_by=0.2)
    assert (trial.ended, trial.evidence.verdict, trial.verdict) == ("max_votes", None, "promote")


def test_the_second_canary_of_a_year_spends_less(platform: Platform) -> None:
    first = on_trial(platform)
    asyncio.run(platform.rollout.rollback("assistant", "ada"))
    second = on_trial(platform)
    assert first != second
    trial = trial_of(platform)
    assert trial.duel.number == 2
    assert trial.alpha_promote == pytest.approx(0.05 * 6 / 3.14159265**2 / 4)
    assert trial.alpha_rollback == 0.05
