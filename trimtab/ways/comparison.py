"""`releases.compare` and `models.compare`: several releases or base models on one suite, with what each costs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from align.evaluation.answering.chat_api import ChatApi
from align.evaluation.items import Item
from align.evaluation.reports.side_by_side import Plan, compare
from align.evaluation.suite_file import Suite, load_suite
from align.evaluation.ways import Way, weigh
from align.prompts.search import without_context
from serve.metering.limits import max_answer_tokens
from serve.router import Target
from store.db.database import Store
from store.jobs.job_parts import Part
from store.rollout import evaluation_items, evaluations, release_examples, releases, runs
from store.rollout.releases import Release
from trimtab.background import call_store
from trimtab.base_models.add import licence_of
from trimtab.config.paths import DataPaths
from trimtab.config.rollout_sections import GateSettings
from trimtab.jobs.job_context import JobContext
from trimtab.jobs.prompt_parts import PROMPT
from trimtab.people_votes import voted_comparisons
from trimtab.serving import Serving
from trimtab.ways.held_data import heldout_rows, rows_of_prompts
from trimtab.ways.job_answers import ANSWER, kept_answers

WAYS = "releases.compare"
MODELS = "models.compare"
BASE, PROMPTED, FEW_SHOT, ADAPTER = "base", "prompt", "few-shot", "adapter"
EVALUATION = "evaluation:"


@dataclass(frozen=True)
class Comparison:
    """Does comparisons. `chat_api` opens a client of this platform's own gateway."""

    db: Store
    serving: Serving
    paths: DataPaths
    gate: GateSettings
    chat_api: Callable[[], ChatApi]
    max_answer_tokens: int | None = None

    async def __call__(self, job: JobContext) -> dict[str, Any]:
        """Measure every model of `params["models"]`, the first of which is the baseline."""
        models: dict[str, str] = job.params["models"]
        targets = {
            name: self.serving.reconciler.router.table.resolve(model, "") for name, model in models.items()
        }
        for base in {target.base for target in targets.values()}:
            await self.serving.wait_ready(base)
        suite = suite_of(job.params["suite"], job.params["rules"])
        rows = await self._rows(job)
        deployment = job.params["deployment"]
        voted = await call_store(self.db, voted_comparisons, deployment) if deployment else []
        caps = self._caps(targets.values())
        items: dict[str, Sequence[Item]] = {}

        async def keep(name: str, found: Sequence[Item]) -> None:
            items[name] = found

        async with kept_answers(job, self.chat_api(), rows) as (api, answers):
            plan = Plan(models, suite, job.params["seed"], rows, caps, voted, open_judge=answers.open_judge)
            found = await compare(
                api, plan, lambda at: job.progress(at["done"], at["total"], "measuring"), keep
            )
        await self._add_facts(found["models"], targets)
        result = {**found, "suite": job.params["suite"]}
        if job.params["ways"]:
            result |= await self._weigh(job, found, targets)
            result["evaluations"] = await self._record(job, found, targets, items)
        await job.drop(ANSWER)
        return result

    async def _rows(self, job: JobContext) -> list[dict[str, Any]]:
        snapshot = job.params["snapshot"]
        if snapshot is None:
            return rows_of_prompts(await job.kept(PROMPT))
        folder = self.paths.snapshots
        rows = await call_store(self.db, heldout_rows, folder, snapshot)
        return [without_context(row) for row in rows]

    def _caps(self, targets: Iterable[Target]) -> dict[str, int]:
        """Return the max tokens that the models answer with, where they or the gateway have a limit."""
        found = {
            target.model: max_answer_tokens(target.sampling, self.max_answer_tokens) for target in targets
        }
        return {model: limit for model, limit in found.items() if limit}

    async def _add_facts(self, models: Mapping[str, Any], targets: Mapping[str, Target]) -> None:
        """Add each model's base, licence, and the memory of its engine."""
        for name, model in models.items():
            base = targets[name].base
            model["base"] = base
            model["licence"] = await asyncio.to_thread(_licence, self.serving.model_path(base))
            model["engine_bytes"] = await engine_bytes(self.serving, base)

    async def _weigh(
        self, job: JobContext, found: Mapping[str, Any], targets: Mapping[str, Target]
    ) -> dict[str, Any]:
        ways = [
            await call_store(self.db, way_of, name, target, self.paths.adapters)
            for name, target in targets.items()
        ]
        checks = self.gate.all_checks("dpo")
        return weigh(found, ways, checks, self.gate.min_items, job.params["requests_per_day"])

    async def _record(
        self,
        job: JobContext,
        found: Mapping[str, Any],
        targets: Mapping[str, Target],
        items: Mapping[str, Sequence[Item]],
    ) -> dict[str, str]:
        """Record an evaluation of each release against the baseline, with its items; return their ids."""
        baseline = targets[found["baseline"]]
        made: dict[str, str] = dict(await job.kept(EVALUATION))
        ids = {}
        for name, target in targets.items():
            if name == found["baseline"] or target.release_id is None:
                continue
            key = EVALUATION + name
            if key not in made:
                report = {
                    "suite": job.params["suite"],
                    "release": target.release,
                    "against": baseline.release,
                    "rows": found["rows"],
                    "seconds": found["seconds"],
                    "measures": found["models"][name]["measures"],
                }
                made[key] = await call_store(
                    self.db, _record, target, baseline, job, report, [item.to_json() for item in items[name]]
                )
                await job.keep(Part(key, made[key]))
            ids[name] = made[key]
        return ids


def suite_of(name: str, rules: Mapping[str, Any] | None) -> Suite:
    """Return a suite, with a win rate by `rules` where they are given. Raises `SuiteError`."""
    suite = load_suite(name)
    if rules is None:
        return suite
    parts = [part.model_dump() for part in suite.measurements if part.kind != "win_rate"]
    return Suite.model_validate({"measurements": [*parts, dict(rules)]})


def ways_of(db: Store, deployment: str, plain: Release) -> dict[str, str]:
    """Return the releases to compare by their way: base, and the newest with a prompt, with examples, with an adapter."""
    quoted = release_examples.counts(db)
    found = {BASE: plain.ref}
    newest: dict[str, str] = {}
    for release in releases.list_all(db, deployment):
        if release.base == plain.base and release.id != plain.id:
            newest.setdefault(kind_of(release, quoted), release.ref)
    return found | {kind: newest[kind] for kind in (PROMPTED, FEW_SHOT, ADAPTER) if kind in newest}


def kind_of(release: Release, quoted: Mapping[str, int]) -> str:
    """Return which way a release is: base, prompt, few-shot or adapter."""
    if release.adapter is not None:
        return ADAPTER
    if quoted.get(release.id):
        return FEW_SHOT
    return PROMPTED if release.system_prompt else BASE


def way_of(db: Store, name: str, target: Target, adapters: Path) -> Way:
    """Return what a release took: the seconds of its training, and the bytes of its adapter."""
    if target.release_id is None or target.adapter is None:
        return Way(name, target.release)
    release = releases.get(db, target.release_id)
    report = (runs.get(db, release.run).report or {}) if release.run else {}
    seconds = report.get("seconds")
    folder = adapters / target.adapter
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else None
    return Way(name, target.release, None if seconds is None else float(seconds), size)


async def engine_bytes(serving: Serving, base: str) -> int | None:
    """Return the memory of a base's engines, on cards or else of processes; None where they run elsewhere."""
    names = {f"engine {engine.spec.name}" for engine in serving.pool.engines(base)}
    cards = await serving.cards.rows()
    on_cards = sum(one["bytes"] for card in cards for one in card["holders"] if one["name"] in names)
    if on_cards:
        return int(on_cards)
    pids = [engine.pid for engine in serving.pool.engines(base) if engine.pid is not None]
    return await asyncio.to_thread(process_bytes, pids) or None


def process_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of processes and those that they started. Blocking."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            total += sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    return total


def _licence(model: Path) -> str | None:
    return licence_of(model) if model.is_dir() else None


def _record(
    db: Store,
    target: Target,
    baseline: Target,
    job: JobContext,
    report: dict[str, Any],
    items: list[dict[str, Any]],
) -> str:
    assert target.release_id is not None
    made = evaluations.create(
        db,
        target.release_id,
        against=baseline.release_id,
        suite=report["suite"],
        requested_by=job.job.requested_by,
    )
    evaluations.move(db, made.id, "running")
    evaluation_items.record(db, made.id, items)
    evaluations.move(db, made.id, "done", report=report)
    return made.id
