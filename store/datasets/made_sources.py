"""Which jobs made the rows of a snapshot, and the prompts that these kept for held-out data."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from store.db.database import Store
from store.db.rows import Row, fetch_all, loads
from store.feedback.rating_queue import CLUSTER, cluster_of
from store.jobs.job_parts import HELDOUT
from store.near_duplicates import fingerprint
from store.values import Conversation, conversation


def of_snapshot(db: Store, snapshot: str) -> list[Row]:
    """Return what decided the made rows that a snapshot trains on: kind, source, params, rows, jobs; most first."""
    rows = fetch_all(
        db.read(),
        """
        select made_rows.kind, made_rows.source, arg_max(params, jobs.id) as params, count(*) as rows,
            list(distinct job order by job) as jobs
        from snapshot_members
        join evidence on subject_id = item_id and evidence.kind = 'made'
        join made_rows on made_rows.id = ref
        join jobs on jobs.id = job
        where snapshot_id = $snapshot and split = 'train'
        group by made_rows.kind, made_rows.source
        order by rows desc, made_rows.source
        """,
        {"snapshot": snapshot},
    )
    return [{**row, "params": loads(row["params"])} for row in rows]


MAX_KEPT = 100
"""Max prompts that are returned: each is compared with every training row's."""
ALIKE = 0.8
"""Jaccard similarity of words and word pairs from which a prompt counts as taught by a training row's."""


def heldout_prompts(db: Store, snapshot: str, jobs: list[str]) -> list[tuple[str, str, Conversation]]:
    """Return id, cluster and messages of up to `MAX_KEPT` prompts that jobs kept, one of each cluster.

    Those that a training row of the snapshot begins like, or nearly so, are left out: it taught them.
    """
    taught = fetch_all(
        db.read(),
        f"""
        select distinct {CLUSTER.format("prompt")} as cluster
        from (select id, prompt from pairs union all select id, prompt from demonstrations) as rows
        join snapshot_members on item_id = rows.id
        where snapshot_id = $snapshot and split = 'train'
        """,
        {"snapshot": snapshot},
    )
    parts = fetch_all(
        db.read(),
        """
        select job || '/' || key as id, value
        from job_parts
        where list_contains($jobs, job) and starts_with(key, $heldout)
        order by job, key
        """,
        {"jobs": jobs, "heldout": HELDOUT},
    )
    seen: set[Any] = {row["cluster"] for row in taught}
    known = fingerprint.features(pa.array([row["cluster"] for row in taught if row["cluster"]], pa.string()))
    found: list[tuple[str, str, Conversation]] = []
    for part in parts:
        prompt = conversation(loads(part["value"]))
        cluster = cluster_of(prompt)
        if cluster not in seen and len(found) < MAX_KEPT:
            seen.add(cluster)
            (own,) = fingerprint.features(pa.array([cluster], pa.string()))
            if all(fingerprint.jaccard(own, other) < ALIKE for other in known):
                found.append((part["id"], cluster, prompt))
    return found
