"""`prompts.search`: find the best system prompt and examples, make releases of them, and report them on test requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from align.evaluation.answering.chat_api import ChatApi
from align.evaluation.reports.side_by_side import Plan, compare
from align.evaluation.suite_file import Judge, Suite, WinRate
from align.prompts.candidates import NONE, Candidate, instructions
from align.prompts.examples import choose_examples
from align.prompts.scoring import ByJudge, ByRules, ByVotes, Scorer, Served
from align.prompts.search import (
    Search,
    conditions_in_words,
    one_per_cluster,
    report_of,
    split_rows,
    without_context,
)
from align.prompts.writing import write_prompts
from store import values
from store.accounts import audit
from store.db.database import Store
from store.errors import Conflict
from store.jobs.job_parts import Part
from store.rollout import release_examples, releases
from store.rollout.release_examples import ReleaseExample
from store.rollout.releases import Release
from trimtab.background import call_store
from trimtab.config.paths import DataPaths
from trimtab.jobs.job_context import JobContext
from trimtab.jobs.prompt_parts import PROMPT
from trimtab.serving import Serving
from trimtab.ways.held_data import heldout_rows, rows_of_prompts, snapshot_rows
from trimtab.ways.job_answers import ANSWER, JobAnswers, kept_answers
from trimtab.ways.written_prompts import Writer, writer_of

KIND = "prompts.search"
WRITTEN = "written"
RELEASE = "release:"
MAX_TOKENS = 256
"""Tokens of an answer where the release has no limit of its own."""
TEST_ROWS = 128
"""Held-out rows and requests of the test."""


@dataclass(frozen=True)
class Data:
    """Requests by what they are used for; no cluster is in two of them."""

    development: list[dict[str, Any]]
    test: list[dict[str, Any]]
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class PromptSearch:
    """Does searches. `chat_api` opens a client of this platform's own gateway."""

    db: Store
    serving: Serving
    paths: DataPaths
    chat_api: Callable[[], ChatApi]

    async def __call__(self, job: JobContext) -> dict[str, Any]:
        """Search, make releases of the best of each kind, and compare them with no prompt on the test requests.

        Where one of them beats having no prompt, the best of the other kind is released too: it has no traffic, and
        `releases compare` sets both beside each other.
        """
        began = time.monotonic()
        plain = await call_store(self.db, releases.get, job.params["plain"])
        data = await self._data(job)
        await self.serving.wait_ready(plain.base)
        rows = [*data.development, *data.test, *data.examples]
        async with kept_answers(job, self.chat_api(), rows) as (api, answers):
            sampling = {} if plain.sampling.get("max_tokens") else {"max_tokens": MAX_TOKENS}
            served = Served(api, plain.ref, sampling)
            candidates = instructions(
                job.params["candidates"], await self._written(job, api, data), job.params["built_in"]
            )
            async with _scorer(job.params["score"], served, answers) as scorer:
                search = Search(scorer, data.development, job.progress)
                examples = choose_examples(data.examples, max(job.params["shots"], default=0), *_rules(job))
                found = await search.run(candidates, examples, job.params["shots"])
            report = report_of(found, scorer.by, len(data.development))
            best = [candidate for candidate, _ in found.best] if found.winner else []
            made = [(one, await self._release(job, one, plain)) for one in best]
            test = await self._test(job, (api, answers), plain, made, data.test) if made else None
        await job.drop(ANSWER)
        return {
            **report,
            "candidates": len(candidates),
            "examples": len(examples),
            "against": plain.ref,
            "releases": {_kind(one): release.ref for one, release in made},
            "release": made[0][1].ref if made else None,
            "test_prompts": len(data.test),
            "test": test,
            "seconds": round(time.monotonic() - began, 1),
        }

    async def _data(self, job: JobContext) -> Data:
        """Return the rows of the snapshot, or the operator's requests, by what they are used for."""
        snapshot = job.params["snapshot"]
        if snapshot is None:
            rows = [without_context(row) for row in rows_of_prompts(await job.kept(PROMPT))]
            development, test = split_rows(rows, 0.5)
            examples: list[dict[str, Any]] = []
        else:
            folder = self.paths.snapshots
            train = await call_store(self.db, lambda db: snapshot_rows(folder, snapshot, "train"))
            test = await call_store(self.db, heldout_rows, folder, snapshot)
            test = [without_context(row) for row in test]
            quoted = 1 / 3 if any(job.params["shots"]) else 0.0
            examples, development = split_rows([without_context(row) for row in train], quoted)
        development = one_per_cluster(development, job.params["prompts"])
        if not development:
            raise Conflict(
                "there is no request to choose prompts on; accepted: a snapshot with rows, or `requests`"
            )
        return Data(development, test, examples)

    async def _written(self, job: JobContext, api: ChatApi, data: Data) -> list[str]:
        """Return the prompts that a model wrote, once for all times that the job goes on."""
        writer = Writer(**job.params["write_with"]) if job.params["write_with"] else None
        if writer is None:
            return []
        known = await job.kept(WRITTEN)
        if WRITTEN not in known:
            job.progress(0, writer.count, "writing prompts")
            rules, prefer = _rules(job)
            rows = [*data.examples, *data.development]
            async with writer_of(writer, api) as (writing, model):
                texts = await write_prompts(
                    writing, model, rows, conditions_in_words(rules, prefer), writer.count
                )
            await job.keep(Part(WRITTEN, texts))
            return texts
        found: list[str] = known[WRITTEN]
        return found

    async def _release(self, job: JobContext, candidate: Candidate, plain: Release) -> Release:
        """Return the release of a candidate; it is made once."""
        key = RELEASE + _kind(candidate)
        known = await job.kept(key)
        if key in known:
            return await call_store(self.db, releases.get, known[key])
        release = await call_store(self.db, make_release, candidate, plain, job.job.requested_by)
        await job.keep(Part(key, release.id))
        await self.serving.refresh()
        return release

    async def _test(
        self,
        job: JobContext,
        opened: tuple[ChatApi, JobAnswers],
        plain: Release,
        made: Sequence[tuple[Candidate, Release]],
        rows: list[dict[str, Any]],
    ) -> dict[str, Any] | None:
        """Compare the releases with no prompt on requests that the search did not use."""
        if not rows:
            return None
        models = {NONE: plain.ref} | {_kind(one): release.ref for one, release in made}
        suite = _test_suite(job.params["score"])
        most = plain.sampling.get("max_tokens") or MAX_TOKENS
        caps = dict.fromkeys(models.values(), int(most))
        plan = Plan(models, suite, job.job.id, rows, caps, timed=False, open_judge=opened[1].open_judge)
        return await compare(
            opened[0], plan, lambda at: job.progress(at["done"], at["total"], "testing the winner")
        )


def _kind(candidate: Candidate) -> str:
    return "few-shot" if candidate.examples else "prompt"


def _rules(job: JobContext) -> tuple[tuple[dict[str, Any], ...], Any]:
    rules = job.params["score"].get("rules") or {}
    return tuple(rules.get("rules") or ()), rules.get("prefer")


@asynccontextmanager
async def _scorer(score: dict[str, Any], served: Served, answers: JobAnswers) -> AsyncIterator[Scorer]:
    """Open what scores candidates, by the parameters of the job."""
    if score.get("judge"):
        async with answers.open_judge(Judge.model_validate(score["judge"])) as judge:
            yield ByJudge(served, judge)
    elif score.get("rules"):
        plan = WinRate.model_validate(score["rules"])
        yield ByRules(served, plan.rules, plan.prefer)
    else:
        yield ByVotes(served)


def _test_suite(score: dict[str, Any]) -> Suite:
    """Return the suite of the test: by what the search was scored by."""
    parts: list[dict[str, Any]] = [{"kind": "heldout", "rows": TEST_ROWS}]
    if judged_by := score.get("rules") or score.get("judge"):
        parts = [{"kind": "answers", "heldout": TEST_ROWS, "max_tokens": 512}, judged_by]
    return Suite.model_validate({"measurements": parts})


def make_release(db: Store, candidate: Candidate, plain: Release, actor: str | None) -> Release:
    """Make a release without traffic, with its examples on record."""
    with db.atomic():
        release = releases.create(
            db,
            plain.deployment,
            plain.base,
            system_prompt=candidate.system_prompt,
            sampling=plain.sampling,
            created_by=actor,
        )
        quoted = [
            ReleaseExample(example.reference, _prompt_hash(example.question), example.text)
            for example in candidate.examples
        ]
        release_examples.record(db, release.id, quoted)
        audit.record(db, actor, "release.create", release.ref, {"found_by": KIND})
    return release


def _prompt_hash(question: str) -> str:
    return values.conversation_hash(values.conversation(question, "question"))
