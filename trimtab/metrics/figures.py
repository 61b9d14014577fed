"""The figures of the loop, read from the store at one moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.training_methods import Method
from store.datasets import new_rows
from store.db.database import Store
from store.db.rows import fetch_all, scalar
from store.feedback import comparisons, raters
from store.rollout import deployments
from trimtab.config.rollout_sections import CanarySettings
from trimtab.rollout.weighing import weigh_canary

METHODS: tuple[Method, ...] = ("dpo", "sft", "kto")
NOUNS = ("pairs", "demonstrations", "likes")


@dataclass(frozen=True, slots=True)
class CanaryFigures:
    """What is known of a canary: votes that decide, its mean score with the bounds, evidence both ways, its traffic."""

    deployment: str
    weight: float
    votes: int
    mean: float | None
    low: float
    high: float
    evidence_for: float
    evidence_against: float


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """Counts by name; seconds for durations. `waiting` is by deployment and method, `verdicts` by deployment and verdict."""

    votes: int
    comparisons: Mapping[str, int]
    rows: Mapping[str, int]
    waiting: Mapping[tuple[str, str], int]
    runs: Mapping[tuple[str, str], int]
    last_run_s: Mapping[tuple[str, str], float]
    verdicts: Mapping[tuple[str, str], int]
    canaries: Sequence[CanaryFigures]
    alpha: float | None
    store_s: float


def read_figures(db: Store, policy: CanarySettings, excluded: tuple[str, ...] = ()) -> LoopFigures:
    """Read everything; `store_s` is how long one small query took."""
    cursor = db.read()
    began = time.perf_counter()
    votes = int(scalar(cursor, "select count(*) from votes"))
    store_s = time.perf_counter() - began
    names = [found.name for found in deployments.list_all(db)]
    return LoopFigures(
        votes=votes,
        comparisons={
            state: count for state, count in comparisons.count_by_state(db).items() if state != "total"
        },
        rows={noun: int(scalar(cursor, f"select count(*) from {noun}")) for noun in NOUNS},
        waiting={
            (name, method): new_rows.count_new(db, method, name, excluded)
            for name in names
            for method in METHODS
        },
        runs=_runs(db),
        last_run_s=_last_runs(db),
        verdicts=_verdicts(db),
        canaries=[found for name in names if (found := _canary(db, name, policy, excluded))],
        alpha=raters.alpha(cursor)["alpha"],
        store_s=store_s,
    )


def _runs(db: Store) -> dict[tuple[str, str], int]:
    rows = fetch_all(db.read(), "select deployment, state, count(*) as n from runs group by all")
    return {(row["deployment"], row["state"]): int(row["n"]) for row in rows}


def _last_runs(db: Store) -> dict[tuple[str, str], float]:
    """Return how long the newest run of each deployment and method took that ended, queueing included."""
    rows = fetch_all(
        db.read(),
        """
        select deployment, method, epoch(max_by(finished_at - created_at, finished_at)) as seconds
        from runs where finished_at is not null group by all
        """,
    )
    return {(row["deployment"], row["method"]): float(row["seconds"]) for row in rows}


def _verdicts(db: Store) -> dict[tuple[str, str], int]:
    rows = fetch_all(
        db.read(),
        """
        select deployment, coalesce(gate_decision->>'$.verdict', 'unknown') as verdict, count(*) as n
        from runs where gate_decision is not null group by all
        """,
    )
    return {(row["deployment"], row["verdict"]): int(row["n"]) for row in rows}


def _canary(
    db: Store, deployment: str, policy: CanarySettings, excluded: tuple[str, ...]
) -> CanaryFigures | None:
    trial = weigh_canary(db, deployment, policy, excluded)
    if trial is None:
        return None
    shown = trial.evidence
    weight = deployments.get(db, deployment).canary_weight or 0.0
    return CanaryFigures(
        deployment, weight, shown.votes, shown.mean, shown.low, shown.high, shown.promote, shown.rollback
    )
