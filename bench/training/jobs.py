"""Run directories of the training benches, and the jobs that the worker's steps take."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Pair = dict[str, Any]


def open_job(
    directory: Path, spec: Any, pairs: Sequence[Pair], heldout: Sequence[Pair] = (), notes_only: bool = False
) -> Any:
    """Write a run directory and return the job that the worker's steps take; its progress goes to stderr."""
    from align.progress import ProgressLog, StopSwitch
    from align.run_directory import RunDirectory
    from align.training.distributed.process_group import process_group
    from align.training.pipeline import Job

    run = RunDirectory(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "run.toml").exists():  # an interrupted run goes on with its own rows
        write_pairs(run.train, "pair", pairs)
        if heldout:
            write_pairs(run.heldout, "held", heldout)
    run.write(spec)

    def show(line: Mapping[str, Any]) -> None:
        if not notes_only or "note" in line:
            print(f"# {line}", file=sys.stderr)

    return Job(run, spec, ProgressLog(run, show), StopSwitch(run), process_group())


def write_pairs(file: Path, name: str, pairs: Sequence[Pair]) -> None:
    """Write pairs as a snapshot has them, with ids that begin with `name`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"pair_id": f"{name}-{n}", **pair} for n, pair in enumerate(pairs)]
    pq.write_table(pa.Table.from_pylist(rows), file)
