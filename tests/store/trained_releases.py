"""Releases with what they were trained on, recorded as a run records them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.datasets import snapshots
from store.datasets.snapshots import Snapshot
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import adapters, deployments, releases, runs
from store.rollout.adapters import AdapterRecord
from store.rollout.releases import Release
from store.values import Message


def vote(db: Store, question: str, rater: str, asked_by: str | None = None) -> str:
    made = comparisons.create(
        db,
        (Message("user", question),),
        [Candidate("good"), Candidate("bad")],
        "assistant",
        asked_by=asked_by,
    )
    return comparisons.vote(db, made.id, "a" if made.a.content == "good" else "b", rater).pairs[0]


def trained(
    db: Store, home: Path, name: str, start: str | None = None, **settings: Any
) -> tuple[Release, Snapshot]:
    """Record what a run leaves: its snapshot, its adapter and its release."""
    deployments.ensure(db, "assistant", "smol")
    snapshot = snapshots.build(
        db, home / "snapshots", "assistant", "dpo", **{"heldout_fraction": 0.0, **settings}
    )
    run = runs.create(db, "dpo", "assistant")
    runs.move(db, run.id, "snapshot")
    runs.move(db, run.id, "training", snapshot=snapshot.hash, start_adapter=start)
    adapters.record(db, AdapterRecord(name, "smol", f"/{name}", run=run.id, start_adapter=start))
    return releases.create(db, "assistant", "smol", name, run=run.id), snapshot


def refs(rows: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> list[str]:
    return [row["ref"] for row in rows]
