"""Answers of a release to the prompts of a job, each kept as it comes, so that none is asked for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from align.evaluation.answering.chat_api import ChatApi, RowRefused
from align.pair_making.choice import Answer
from align.pair_making.sampling import Sampling, sample
from serve.metering.limits import max_answer_tokens
from store.jobs.job_parts import Part
from store.rollout.releases import Release
from trimtab.jobs.job_context import JobContext
from trimtab.jobs.prompt_parts import PROMPT

Messages = list[dict[str, Any]]


def max_tokens_of(release: Release, wanted: int, limit: int | None) -> int:
    """Return the max tokens of an answer: those wanted, but no more than the release and the gateway's limit allow."""
    return max_answer_tokens(release.sampling, wanted, limit) or wanted


async def sample_all(
    job: JobContext,
    api: ChatApi,
    model: str,
    prompts: Mapping[str, Messages],
    n: int,
    sampling: Sampling,
    kind: str = "answers",
    doing: str = "sampling answers",
) -> dict[str, list[Answer]]:
    """Return `n` answers to each prompt, by the prompt's key; a prompt that is refused has none.

    `kind` names the parts that they are kept in.
    """

    async def ask(key: str) -> Any:
        try:
            answers = await sample(api, model, prompts[key], n, sampling)
        except RowRefused as refused:
            return {"refused": str(refused)}
        return {"answers": [answer.to_json() for answer in answers]}

    found = await each_once(job, prompts, kind, ask, doing)
    return {key: [Answer(**one) for one in value.get("answers", ())] for key, value in found.items()}


async def each_once(
    job: JobContext,
    prompts: Mapping[str, Any],
    kind: str,
    work: Callable[[str], Awaitable[Any]],
    doing: str,
) -> dict[str, Any]:
    """Call `work` for every prompt's key that has no part of a kind yet, keep each result, and return all by key.

    The first failure ends the others; what was kept stays.
    """
    done = {name_of(part, kind): value for part, value in (await job.kept(f"{kind}:")).items()}
    job.progress(len(done), len(prompts), doing)

    async def one(key: str) -> None:
        value = await work(key)
        await job.keep(Part(f"{kind}:{key.removeprefix(PROMPT)}", value, of=key))
        done[key] = value
        job.progress(len(done), len(prompts), doing)

    try:
        async with asyncio.TaskGroup() as group:
            for key in prompts:
                if key not in done:
                    group.create_task(one(key))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return {key: done[key] for key in prompts if key in done}


def name_of(part: str, kind: str) -> str:
    """Return the key of the prompt that a part of a kind is about."""
    return PROMPT + part.removeprefix(f"{kind}:")
