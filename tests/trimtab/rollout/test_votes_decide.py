"""Votes on a canary: which of them count, and when they promote it or roll it back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from store.accounts import audit
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import canary_votes, deployments, releases, runs
from tests.trimtab.conftest import BASE, judged
from trimtab import loop
from trimtab.platform import Platform
from trimtab.rollout import weighing
from trimtab.rollout.weighing import Trial, weigh_canary


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


def test_without_a_canary_no_votes_are_read(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("all raters' votes were read")

    monkeypatch.setattr(weighing.raters, "report", read)
    assert weigh_canary(platform.db, "assistant", platform.settings.canary) is None
    asyncio.run(platform.rollout.weigh_votes("assistant"))
