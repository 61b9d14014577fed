"""The serving side as the loop and the API see it: engines, routing and adapters of one platform, behind one value.

Knows nothing of runs; `trimtab.loop` joins serving and training.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from serve.adapters.files import stage
from serve.adapters.prune import prune
from serve.adapters.publishing import Published, publish, validate_adapter
from serve.adapters.reconciler import Reconciler
from serve.engine.pool import EnginePool
from serve.engine.process import GuardedProcess, ProcessOptions
from serve.errors import AdapterRefused
from store.db.database import Store
from store.rollout.adapters import AdapterRecord
from store.values import Probe
from trimtab.base_models.fetching import Downloads
from trimtab.base_models.local import engine_specs, model_of
from trimtab.cards.usage import CardUsage
from trimtab.config.paths import DataPaths
from trimtab.config.serving_sections import DEFAULT_BASE, EngineSettings
from trimtab.config.settings import Settings

log = logging.getLogger(__name__)
PRUNE_EVERY_S = 3600.0

P = ParamSpec("P")
T = TypeVar("T")


class Serving:
    """The engines of this platform and what they serve. `preparing` says why engines have not been started yet."""

    def __init__(
        self, db: Store, settings: Settings, paths: DataPaths, pool: EnginePool, reconciler: Reconciler
    ) -> None:
        self.db, self.settings, self.paths = db, settings, paths
        self.pool, self.reconciler = pool, reconciler
        self.engines = dict(settings.engines)
        self._downloads = Downloads(paths.logs)
        for engine in pool.engines():
            self._downloads.attach(engine, self._revision(engine.spec.base))
        self.preparing: str | None = None
        self.cards = CardUsage(pool)

    @property
    def bases(self) -> Sequence[str]:
        """Names of the base models that engines serve."""
        return sorted(self.pool.bases())

    def model_path(self, base: str) -> Path:
        """Return the directory of a base's weights; a hub id until an engine has downloaded it."""
        engines = self.pool.engines(base)
        return Path(engines[0].spec.model) if engines else model_of(self.engines, self.paths, base)

    def _revision(self, base: str) -> str | None:
        return next((engine.revision for engine in self.engines.values() if engine.base == base), None)

    async def add_base(self, base: str, engines: Mapping[str, EngineSettings]) -> None:
        """Start the engines of a further base model and route to it. Raises ValueError for an engine's name used twice."""
        added = self.pool.add(engine_specs(engines, self.paths))
        self.engines |= engines
        for engine in added:
            self._downloads.attach(engine, self._revision(base))
            await engine.start()
        await self.reconciler.refresh()

    async def remove_base(self, base: str) -> None:
        """Route nothing to a base model any more and stop its engines; answers in flight get their time."""
        self.engines = {name: engine for name, engine in self.engines.items() if engine.base != base}
        gone = self.pool.remove(base)
        try:
            await self.reconciler.refresh()
        finally:
            await asyncio.gather(*(engine.stop() for engine in gone))

    async def wait_downloaded(self, base: str) -> None:
        """Return once the weights of a base that an engine downloads are on this disk."""
        while any(engine.fetch is not None for engine in self.pool.engines(base)):  # noqa: ASYNC110
            await asyncio.sleep(0.5)

    def max_lora_rank(self, base: str) -> int:
        """Return the largest rank that every engine of the base accepts."""
        return min(engine.spec.max_lora_rank for engine in self.pool.engines(base))

    async def start(self) -> None:
        """Prepare missing default weights, then start the engines; failures are shown, not raised."""
        try:
            await self._prepare()
            await self.pool.start()
            await self.reconciler.reconcile()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("the engines could not be started")
            self.preparing = f"engines not started: {error}"

    async def _prepare(self) -> None:
        directory = self.paths.model(DEFAULT_BASE)
        needed = any(e.base == DEFAULT_BASE and not e.model and not e.url for e in self.engines.values())
        if not needed or (directory / "config.json").is_file():
            return
        self.preparing = f"preparing {DEFAULT_BASE} (once, about half a minute)"
        log.info("%s", self.preparing)
        logfile = self.paths.logs / "prepare.log"
        process = await GuardedProcess.start(
            [sys.executable, "-m", "align.prepare", "--out", str(directory)],
            ProcessOptions(log=logfile),
        )
        status = await process.wait()
        if status != 0:
            raise RuntimeError(f"preparing {DEFAULT_BASE} ended with status {status}; see {logfile}")
        self.preparing = None

    async def wait_ready(self, base: str) -> None:
        """Return once an engine of the base serves; a run that waits here survives an engine's restart."""
        while not any(engine.state == "ready" for engine in self.pool.engines(base)):  # noqa: ASYNC110
            await asyncio.sleep(0.5)

    async def refresh(self) -> None:
        """Route by the store's deployments and releases, and load their adapters on the engines."""
        await self.reconciler.refresh()
        await self.reconciler.reconcile()

    async def change(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Change the store by `function(db, ...)` and route by it at once; return what the function does."""
        done = await self.reconciler.change(function, self.db, *args, **kwargs)
        await self.reconciler.reconcile()
        return done

    def missing(self) -> list[str]:
        """Return what keeps the platform from being ready, one sentence each."""
        if self.preparing:
            return [self.preparing]
        return [
            f"engine {engine.spec.name} ({engine.spec.base}) is {engine.state}"
            + (f": {engine.detail}" if engine.detail else "")
            for engine in self.pool.engines()
            if engine.state != "ready"
        ]

    def engine_rows(self) -> list[dict[str, Any]]:
        """Return one row per engine, for the status page."""
        return [
            {
                "name": engine.spec.name,
                "base": engine.spec.base,
                "state": "preparing" if self.preparing else engine.state,
                "detail": self.preparing or engine.detail or None,
                "pid": engine.pid,
                "restarts": engine.restarts,
                "adapters": sorted(engine.loaded),
                "log_tail": engine.log_tail(12).splitlines(),
            }
            for engine in self.pool.engines()
        ]

    async def publish_directory(self, source: Path, base: str, created_by: str) -> AdapterRecord:
        """Publish a PEFT directory: checked, measured against PEFT's own log-probabilities, on every engine.

        Raises AdapterRefused.
        """
        await self.wait_ready(base)
        with tempfile.TemporaryDirectory() as scratch:
            given, source = source, await asyncio.to_thread(stage, source, Path(scratch) / "adapter")
            # before the probe, which takes many seconds
            await validate_adapter(source, self.pool, base)
            out, logfile = Path(scratch) / "probe.json", Path(scratch) / "probe.log"
            process = await GuardedProcess.start(
                [
                    *(sys.executable, "-m", "align.probe", "--model", str(self.model_path(base))),
                    *("--adapter", str(source), "--out", str(out), "--dtype", self._dtype(base)),
                ],
                ProcessOptions(log=logfile),
            )
            if await process.wait() != 0:
                lines = (await asyncio.to_thread(logfile.read_text)).strip().splitlines()
                raise AdapterRefused(
                    f"PEFT cannot load {given} on {base}: {lines[-1] if lines else 'no reason given'}"
                )
            probe = Probe.from_json(json.loads(await asyncio.to_thread(out.read_text)))
            published = await self.publish(source, base, probe)
        return self.adapter_record(published, base, created_by=created_by)

    def _dtype(self, base: str) -> str:
        """In which type a probe computes: the engine's, where training supports it."""
        types = {str(engine.spec.args.get("dtype", "auto")) for engine in self.pool.engines(base)}
        return found if len(types) == 1 and (found := types.pop()) in ("float32", "bfloat16") else "auto"

    async def publish(self, source: Path, base: str, probe: Probe) -> Published:
        """Load the adapter on every engine of the base, and measure parity."""
        return await publish(
            source,
            self.paths.adapters,
            self.pool,
            base,
            probe,
            self.settings.training.parity_tolerance,
            self.settings.training.max_nf4_drift,
        )

    async def prune(
        self, keep_last: int | None, max_age_days: float | None, dry_run: bool = False
    ) -> Sequence[str]:
        """Delete old adapters that nothing needs; return their names. Raises DrainTimeout."""
        age = None if max_age_days is None else timedelta(days=max_age_days)
        return await prune(self.db, self.pool, self.paths.adapters, keep_last, age, dry_run)

    async def prune_hourly(self) -> None:
        """Delete what the settings call old, every hour until cancelled; a failure is logged."""
        chosen = self.settings.adapters
        while chosen.keep_last is not None or chosen.max_age_days is not None:
            await asyncio.sleep(PRUNE_EVERY_S)
            try:
                gone = await self.prune(chosen.keep_last, chosen.max_age_days)
                log.info("pruned %d adapters %s", len(gone), ", ".join(gone))
            except Exception:
                log.exception("old adapters could not be deleted")

    def adapter_record(
        self, published: Published, base: str, run: str | None = None, created_by: str | None = None
    ) -> AdapterRecord:
        """Return what the store keeps of a published adapter."""
        return AdapterRecord(
            hash=published.name,
            base=base,
            path=str(published.path),
            rank=published.facts.rank,
            bytes=published.facts.bytes,
            target_modules=tuple(published.facts.target_modules),
            run=run,
            parity=published.parity.to_json() if published.parity else None,
            created_by=created_by,
        )
