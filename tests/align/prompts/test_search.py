from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from align.evaluation.measures import cluster_of
from align.prompts.candidates import Candidate, Example, instructions
from align.prompts.scoring import ByRules, ByVotes, Scorer, Served
from align.prompts.search import Found, Search, one_per_cluster, split_rows
from tests.support.stub_releases import WORDS, PromptedPlatform, Release

TWO = ({"rule": "max_sentences", "value": 2},)


def said(sentences: int) -> Release:
    def answer(prompt: str, rng: random.Random, max_tokens: int) -> tuple[str, str]:
        return " ".join(f"The {rng.choice(WORDS)} is here." for _ in range(sentences)), "stop"

    return Release(answer)


def behave(system: str) -> Release:
    """Follow what a system prompt says of the number of sentences, and what its examples show."""
    if "two sentences" in system or "Assistant:" in system:
        return said(2)
    return said(3 if "concise" in system else 5)


def rows(count: int = 24) -> list[dict[str, Any]]:
    return [
        {
            "pair_id": f"pair-{n}",
            "prompt": [{"role": "user", "content": f"What about {WORDS[n % 28]} {n}?"}],
            "chosen": [{"role": "assistant", "content": f"yes {n}"}],
            "rejected": [{"role": "assistant", "content": f"no {n}"}],
        }
        for n in range(count)
    ]


def search(
    platform: PromptedPlatform, kind: str, candidates: list[Candidate], **more: Any
) -> tuple[Found, Search]:
    async def run() -> tuple[Found, Search]:
        async with platform.api() as api:
            served = Served(api, "assistant@1", {"max_tokens": 50})
            scorer: Scorer = ByVotes(served) if kind == "votes" else ByRules(served, TWO, "shorter")
            one = Search(scorer, rows(), **more)
            return await one.run(candidates, EXAMPLES, SHOTS), one

    return asyncio.run(run())


EXAMPLES = [Example("Why?", "Because.", "pair-900"), Example("When?", "Now.", "pair-901")]
SHOTS = (0, 2)


def test_the_prompt_that_follows_the_rules_wins() -> None:
    found, one = search(PromptedPlatform(behave), "rules", instructions(["Answer in verse."]))
    assert found.winner is not None
    assert "two sentences" in found.winner.system_prompt or found.winner.examples
    names = [candidate.instruction for candidate, _ in found.best]
    assert "Answer in at most two sentences." in names
    assert found.best[0][1]["value"] == 1.0
    assert {stage for stage, _ in found.rounds} == {"instructions", "examples"}
    assert one.done == one.total


def test_no_prompt_wins_where_none_helps() -> None:
    found, _ = search(PromptedPlatform(lambda system: said(1)), "rules", instructions())
    assert found.winner is None


def test_votes_score_a_prompt_without_generating() -> None:
    def voted(system: str) -> Release:
        return Release(chosen=-1.0 if "expert" in system else -2.0)

    platform = PromptedPlatform(voted)
    found, _ = search(platform, "votes", instructions())
    assert found.winner is not None
    assert "expert" in found.winner.instruction
    assert platform.generated == []


def test_progress_counts_up_to_what_was_planned() -> None:
    seen: list[tuple[int, int]] = []
    _, one = search(
        PromptedPlatform(behave),
        "rules",
        instructions(),
        on_progress=lambda done, total, _: seen.append((done, total)),
    )
    assert [done for done, _ in seen[:3]] == [1, 2, 3]
    assert all(done <= total for done, total in seen)
    assert seen[-1] == (one.done, one.done)


def test_parts_share_no_cluster_and_stay_as_rows_arrive() -> None:
    every = [*rows(200), *rows(20)]
    parts = split_rows(every, 0.5)
    clusters = [{cluster_of(row) for row in part} for part in parts]
    assert sum(map(len, clusters)) == 200
    assert sum(map(len, parts)) == 220
    assert 70 < len(clusters[0]) < 130
    fewer = split_rows(every[:50], 0.5)
    assert all(
        {cluster_of(row) for row in part} <= whole for part, whole in zip(fewer, clusters, strict=True)
    )
    assert len(one_per_cluster(every, 30)) == 30
    assert len(one_per_cluster(rows(5) * 2, 30)) == 5


def test_a_judge_without_valid_verdicts_ends_the_search() -> None:
    import httpx

    from align.evaluation.answering.chat_api import EvaluationError
    from align.evaluation.judging.judge import JudgeApi
    from align.evaluation.suite_file import Judge
    from align.prompts.scoring import ByJudge

    plan = Judge(kind="judge", url="http://judge", model="m")
    mute = httpx.MockTransport(lambda request: httpx.Response(200, json={"choices": []}))

    async def run() -> None:
        async with PromptedPlatform(behave).api() as api, JudgeApi(plan, transport=mute) as judge:
            scorer = ByJudge(Served(api, "assistant@1", {"max_tokens": 50}), judge)
            await Search(scorer, rows()).run(instructions(), [], (0,))

    with pytest.raises(EvaluationError, match="no valid verdicts"):
        asyncio.run(run())
