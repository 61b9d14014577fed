"""Distil a system prompt into an adapter: sample the prompted release, and teach the base to answer so without the prompt.

The answers become demonstrations in place of what was distilled for the deployment before, and a run learns them; the
release that it makes has no system prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from align.evaluation.answering.chat_api import ChatApi
from align.pair_making.choice import Answer, usable
from store.datasets.snapshot_settings import SnapshotSettings
from store.db.database import Store
from store.errors import Conflict
from store.jobs.job_parts import HELDOUT, Part
from store.rollout import releases
from store.training_data import made_rows
from store.training_data.made_rows import MadeRow
from store.training_data.origin import BASE_ALONE
from store.values import Demonstration, Message, conversation
from trimtab.background import LongWork, call_store
from trimtab.jobs import prompt_parts
from trimtab.jobs.distil_plan import DistilPlan
from trimtab.jobs.job_context import JobContext
from trimtab.jobs.sampled_answers import Messages, sample_all
from trimtab.runs.runner import Runner
from trimtab.serving import Serving
from trimtab.start_run import start_run


class Distil:
    """The work of such a job. `chat_api` opens a client of this platform's own gateway; `sources` are those of traffic."""

    def __init__(
        self,
        db: Store,
        serving: Serving,
        long_work: LongWork,
        runner: Runner,
        chat_api: Callable[[], ChatApi],
        sources: Sequence[str],
    ) -> None:
        self.db, self.serving, self.long_work, self.runner = db, serving, long_work, runner
        self.chat_api, self.sources = chat_api, sources

    async def __call__(self, job: JobContext) -> dict[str, Any]:
        """Distil, and return how many demonstrations there are and the run that learns them."""
        if kept := await job.kept("result"):
            return dict(kept["result"])
        plan = DistilPlan.model_validate(job.params)
        settings = SnapshotSettings(seed=plan.seed, heldout_fraction=plan.heldout_fraction)
        prompts: dict[str, Messages] = await prompt_parts.of_job(job, plan.prompts, self.sources, settings)
        found = await self._sample(job, plan, prompts)
        rows = [row for key, answers in found.items() for row in _rows(plan, key, prompts[key], answers)]
        made = await self.long_work.run(
            made_rows.record, job.job.id, plan.deployment, "distilled", plan.prompt_hash, rows
        )
        if not made.rows:
            raise Conflict(
                f"no answer of {plan.ref} to learn: of {len(prompts)} prompts none has a whole answer that is new; "
                "accepted: more prompts, or more max_tokens"
            )
        await call_store(self.db, made_rows.withdraw_distilled, plan.deployment, job.job.id)
        run = await start_run(
            self.db,
            self.runner,
            method="sft",
            deployment=plan.deployment,
            requested_by=job.job.requested_by,
            no_system_prompt=True,
            **plan.run.model_dump(),
        )
        result = {
            "demonstrations": made.rows,
            "duplicates": made.duplicates,
            "source": f"distilled:{plan.prompt_hash}",
            "prompts": len(prompts),
            "heldout": len(await job.kept(HELDOUT)),
            "cut": sum(answer.is_cut for answers in found.values() for answer in answers),
            "run": run.id,
            "compare_with": plan.ref,
        }
        await job.keep(Part("result", result))
        for parts in (prompt_parts.PROMPT, "answers:"):
            await job.drop(parts)
        return result

    async def _sample(
        self, job: JobContext, plan: DistilPlan, prompts: dict[str, Messages]
    ) -> dict[str, list[Answer]]:
        if not prompts:
            raise Conflict("no prompt to distil on: all are kept for held-out data; accepted: more prompts")
        release = await call_store(self.db, releases.get, plan.release)
        await self.serving.wait_ready(release.base)
        async with self.chat_api() as api:
            return await sample_all(
                job, api, plan.ref, prompts, plan.n, plan.sampling, doing=f"sampling {plan.ref}"
            )


def _rows(plan: DistilPlan, key: str, prompt: Messages, answers: Sequence[Answer]) -> list[MadeRow]:
    """Return a demonstration of each whole answer, trained on without any system prompt."""
    return [
        MadeRow(
            key,
            Demonstration(conversation(prompt), (Message("assistant", answers[place].text),)),
            plan.release,
            BASE_ALONE,
            (answers[place].finish_reason,),
            {"sampled": len(answers), "temperature": plan.temperature, "propensity": 1.0},
        )
        for place in usable(answers)
    ]
