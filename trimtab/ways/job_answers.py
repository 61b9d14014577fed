"""Answers that a job got are kept with it, so that it goes on after them when it is resumed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from align.evaluation.answering.chat_api import ChatApi
from align.evaluation.answering.kept_answers import KeptAnswers, KeptVerdicts
from align.evaluation.judging.judge import JudgeApi
from align.evaluation.suite_file import Judge
from common.chat_messages import SYSTEM_ROLES
from store import values
from store.errors import Invalid
from store.jobs.job_parts import Part
from trimtab.jobs.job_context import JobContext

ANSWER = "answer:"
FLUSH_S = 0.5


class JobAnswers:
    """Keeps answers with a job, at most `FLUSH_S` seconds after they came: a write to the disk each would take longer.

    `whole` maps the hashes of prompts that lost their system message to those of the prompts as they are in the store.
    """

    def __init__(
        self, job: JobContext, known: dict[str, Any], whole: Mapping[str | None, str | None]
    ) -> None:
        self._job, self._known, self._whole = job, known, whole
        self._waiting, self._written = list[Part](), time.monotonic()

    async def keep(self, name: str, value: dict[str, Any], body: Mapping[str, Any]) -> None:
        """Keep what a request gave, with the hash of its prompt, so that an erasure of whoever asked it reaches it."""
        asked = hash_of(body)
        self._waiting.append(Part(ANSWER + name, value, prompt_hash=self._whole.get(asked, asked)))
        if time.monotonic() - self._written >= FLUSH_S:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        parts, self._waiting, self._written = self._waiting, [], time.monotonic()
        if parts:
            await self._job.keep(*parts)

    def open_judge(self, plan: Judge) -> JudgeApi:
        """Return a judge with the verdicts that the job has already."""
        return KeptVerdicts(plan, self._known, self.keep)


@asynccontextmanager
async def kept_answers(
    job: JobContext, api: ChatApi, rows: Iterable[Mapping[str, Any]]
) -> AsyncIterator[tuple[ChatApi, JobAnswers]]:
    """Open `api` with the answers that the job has already; new ones are kept, also where the work fails.

    `rows` are what is asked about.
    """
    known = {key.removeprefix(ANSWER): value for key, value in (await job.kept(ANSWER)).items()}
    whole = {
        hash_of({"messages": row["prompt"]}): _hash(row["whole_prompt"])
        for row in rows
        if "whole_prompt" in row
    }
    answers = JobAnswers(job, known, whole)
    async with KeptAnswers(api, known, answers.keep) as kept:
        try:
            yield kept, answers
        finally:
            await answers.flush()


def hash_of(body: Mapping[str, Any]) -> str | None:
    """Return the hash of a request's prompt as the store has it: without system messages and a given answer."""
    turns = [turn for turn in body["messages"] if turn.get("role") not in SYSTEM_ROLES]
    while turns and turns[-1].get("role") == "assistant":
        turns.pop()
    return _hash(turns)


def _hash(turns: Sequence[Mapping[str, Any]]) -> str | None:
    try:
        return values.conversation_hash(values.conversation(turns, "messages")) if turns else None
    except Invalid:
        return None
