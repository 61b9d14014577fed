"""Make preference pairs without people: sample answers of stable to each prompt, and let rules, a judge or a release decide.

The job keeps its prompts, answers and verdicts as it goes; once the pairs are recorded only the prompts that are kept for
held-out data stay, which a gate measures such pairs on (trimtab.made_heldout).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from align.evaluation.answering.chat_api import ChatApi
from align.evaluation.judging.judge import JudgeApi, measure_by_judge
from align.evaluation.judging.judge_measures import calibration
from align.pair_making.by_judge import choose_by_judge, compare_all, from_json
from align.pair_making.choice import ALIKE, Answer, Chosen, choose, similarity, usable
from align.pair_making.preference import CUT, is_better
from store.datasets.snapshot_settings import SnapshotSettings
from store.db.database import Store
from store.errors import Conflict, Invalid
from store.jobs.job_parts import HELDOUT, Part
from store.rollout import releases
from store.training_data import made_rows
from store.training_data.made_rows import MadeRow
from store.values import Message, PreferencePair, conversation
from trimtab.background import LongWork, call_store
from trimtab.jobs import prompt_parts
from trimtab.jobs.job_context import JobContext
from trimtab.jobs.make_pairs_plan import ByJudge, ByRelease, ByRules, MakePlan
from trimtab.jobs.sampled_answers import Messages, each_once, sample_all
from trimtab.people_votes import voted_comparisons
from trimtab.serving import Serving


class MakePairs:
    """The work of such a job. `chat_api` opens a client of this platform's own gateway; `sources` are those of traffic."""

    def __init__(
        self,
        db: Store,
        serving: Serving,
        long_work: LongWork,
        chat_api: Callable[[], ChatApi],
        sources: Sequence[str],
    ) -> None:
        self.db, self.serving, self.long_work = db, serving, long_work
        self.chat_api, self.sources = chat_api, sources

    async def __call__(self, job: JobContext) -> dict[str, Any]:
        """Make the pairs of a job, and return how many and why others were not made."""
        if kept := await job.kept("result"):
            return dict(kept["result"])
        plan = MakePlan.model_validate(job.params)
        settings = SnapshotSettings(seed=plan.seed, heldout_fraction=plan.heldout_fraction)
        prompts: dict[str, Messages] = await prompt_parts.of_job(job, plan.prompts, self.sources, settings)
        heldout = len(await job.kept(HELDOUT))
        if not prompts:
            raise Conflict(
                f"no prompt to make pairs of: {heldout} are kept for held-out data; accepted: more prompts"
            )
        release = await call_store(self.db, releases.get, plan.release)
        await self.serving.wait_ready(release.base)
        async with self.chat_api() as api:
            found = await self._decide(job, api, plan, prompts)
        made = await self.long_work.run(
            made_rows.record, job.job.id, plan.deployment, plan.by.kind, plan.by.hash, found.rows
        )
        result = {
            "pairs": made.rows,
            "duplicates": made.duplicates,
            "source": f"{plan.by.kind}:{plan.by.hash}",
            "prompts": len(prompts),
            "heldout": heldout,
            **found.counts(),
        }
        await job.keep(Part("result", result))
        for parts in (prompt_parts.PROMPT, "answers:", "better:", "verdicts:"):
            await job.drop(parts)
        return result

    async def _decide(
        self, job: JobContext, api: ChatApi, plan: MakePlan, prompts: Mapping[str, Messages]
    ) -> _Found:
        found = _Found(plan, prompts)
        if isinstance(plan.by, ByJudge):
            found.judge = await self._calibrate(job, plan, plan.by)
        answers = await sample_all(job, api, plan.ref, prompts, plan.samples, plan.sampling)
        if isinstance(plan.by, ByRules):
            found.by_rules(plan.by, answers)
        elif isinstance(plan.by, ByRelease):
            better = await sample_all(
                job, api, plan.by.ref, prompts, 1, plan.sampling, "better", f"sampling {plan.by.ref}"
            )
            found.by_release(answers, better)
        else:
            found.by_judge(answers, await _verdicts(job, plan.by, prompts, answers))
        return found

    async def _calibrate(self, job: JobContext, plan: MakePlan, by: ByJudge) -> dict[str, Any]:
        """Return how the judge agrees with people, asked once. Raises `Invalid` where it does not and has to."""
        kept = await job.kept("calibration")
        if kept:
            found = kept["calibration"]
        else:
            voted = await call_store(self.db, voted_comparisons, plan.deployment, max(1, by.judge.voted))
            job.progress(0, len(voted), "comparing the judge with people")
            async with JudgeApi(by.judge) as judge:
                found = calibration(await measure_by_judge(judge, [], {}, voted)).to_json()
            await job.keep(Part("calibration", found))
        if found["why"] and not by.uncalibrated:
            raise uncalibrated(found["why"])
        return dict(found)


def uncalibrated(why: str) -> Invalid:
    """Return the error of a judge that may not decide."""
    return Invalid(
        "judge",
        f"not calibrated: {why}",
        "a judge that agrees with people, or uncalibrated = true, which marks the pairs",
    )


async def _verdicts(
    job: JobContext, by: ByJudge, prompts: Mapping[str, Messages], answers: Mapping[str, Sequence[Answer]]
) -> dict[str, Any]:
    async with JudgeApi(by.judge) as judge:

        async def compare(key: str) -> Any:
            texts = [answers[key][place].text for place in usable(answers[key])]
            judged = await compare_all(judge, prompts[key], texts)
            if judge.gave_up:
                raise Invalid(
                    "judge",
                    f"{judge.invalid} of {judge.asked} comparisons without a valid verdict",
                    'a model that answers {"verdict": "A" | "B" | "tie"}',
                )
            return judged.to_json()

        of_some = {key: prompts[key] for key in prompts if len(usable(answers[key])) > 1}
        return await each_once(job, of_some, "verdicts", compare, "asking the judge")


class _Found:
    """The pairs that were decided, and why other prompts have none."""

    def __init__(self, plan: MakePlan, prompts: Mapping[str, Messages]) -> None:
        self.plan, self.prompts = plan, prompts
        self.rows: list[MadeRow] = []
        self.judge: dict[str, Any] | None = None
        self.why: Counter[str] = Counter()

    def counts(self) -> dict[str, Any]:
        """Return what was counted, and how the judge agrees with people where there is one."""
        names = ("answers", "cut", "blank", "refused", "undecided", "invalid")
        return {name: self.why[name] for name in names} | ({"judge": self.judge} if self.judge else {})

    def by_rules(self, by: ByRules, answers: Mapping[str, Sequence[Answer]]) -> None:
        """Take the answers that do best by the rules."""
        for key, sampled, places in self._usable(answers, keep_cut=self.plan.cut == "reject"):
            scores = [
                CUT if sampled[place].is_cut else by.preference.score(sampled[place].text) for place in places
            ]
            chosen = choose(
                [sampled[place].text for place in places],
                scores,
                lambda i, j, scores=scores: is_better(scores[i], scores[j]),  # type: ignore[misc]
                self.plan.against,
            )
            self._take(key, sampled, places, chosen, {"scores": [list(score) for score in scores]})

    def by_judge(self, answers: Mapping[str, Sequence[Answer]], verdicts: Mapping[str, Any]) -> None:
        """Take the answers that the judge prefers in both orders."""
        marked = {"calibrated": not (self.judge and self.judge["why"])}
        for key, sampled, places in self._usable(answers):
            if key not in verdicts:
                continue
            judged = from_json(verdicts[key])
            self.why["invalid"] += judged.invalid
            texts = [sampled[place].text for place in places]
            chosen = choose_by_judge(texts, judged, self.plan.against)
            self._take(key, sampled, places, chosen, marked | {"scores": judged.scores()})

    def by_release(
        self, answers: Mapping[str, Sequence[Answer]], better: Mapping[str, Sequence[Answer]]
    ) -> None:
        """Take the other release's answer as the better one."""
        both = {key: [*better.get(key, ()), *answers[key]] for key in answers}
        for key, sampled, places in self._usable(both):
            alike = similarity(sampled[0].text, sampled[1].text) > ALIKE
            self._take(key, sampled, places, None if alike else Chosen(0, 1, (0, 1)), {})

    def _usable(
        self, answers: Mapping[str, Sequence[Answer]], keep_cut: bool = False
    ) -> list[tuple[str, Sequence[Answer], list[int]]]:
        found = []
        for key, sampled in answers.items():
            places = usable(sampled, keep_cut)
            self.why["answers"] += len(sampled)
            self.why["cut"] += sum(answer.is_cut for answer in sampled)
            self.why["blank"] += sum(answer.is_blank for answer in sampled)
            if not sampled:
                self.why["refused"] += 1
            elif len(places) < 2:
                self.why["undecided"] += 1
            else:
                found.append((key, sampled, places))
        return found

    def _take(
        self,
        key: str,
        sampled: Sequence[Answer],
        places: Sequence[int],
        chosen: Chosen | None,
        detail: Mapping[str, Any],
    ) -> None:
        if chosen is None:
            self.why["undecided"] += 1
            return
        good, bad = sampled[places[chosen.chosen]], sampled[places[chosen.rejected]]
        value = PreferencePair(
            conversation(self.prompts[key]),
            (Message("assistant", good.text),),
            (Message("assistant", bad.text),),
            weight=self.plan.weight,
        )
        facts = {
            "sampled": len(sampled),
            "usable": len(places),
            "against": self.plan.against,
            "ranks": list(chosen.ranks),
            "temperature": self.plan.temperature,
            "propensity": 1.0,
            **detail,
        }
        reasons = (good.finish_reason, bad.finish_reason)
        self.rows.append(MadeRow(key, value, self.plan.release, self.plan.release, reasons, facts))
