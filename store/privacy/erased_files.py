"""What erasures, and deletions of uploaded files, leave to do on the disk: snapshots' directories follow the store.

Files are touched only after the erasure or deletion is committed, so a crash in between leaves them behind;
`delete_erased` finds whatever is left, of any of them, and may be run at any time.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from common.files import write_atomic
from store.datasets import data_report
from store.db.database import Store
from store.db.rows import fetch_all, loads

_PARQUET = ("train.parquet", "heldout.parquet")


def delete_erased(db: Store) -> None:
    """Delete the Parquet files of snapshots that held erased or deleted rows, and take erased names out of their reports.

    A file that is younger than the erasure was written without those rows and stays.
    """
    with db.long_work:
        for row in fetch_all(
            db.read(),
            """
            select directory, max(erased.created_at) as erased_at
            from (
                select unnest(report->>'$.snapshots[*]') as id, created_at from erasures
                union all
                select unnest(snapshots), created_at from file_deletions
            ) as erased
            join snapshots using (id)
            group by directory
            """,
        ):
            for name in _PARQUET:
                path = Path(row["directory"]) / name
                if path.exists() and _written(path) <= row["erased_at"]:
                    path.unlink()
        if not fetch_all(db.read(), "select 1 from erasures limit 1"):
            return
        for row in fetch_all(db.read(), "select directory, settings from snapshots"):
            _follow(Path(row["directory"]), loads(row["settings"]))


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)


def _follow(home: Path, settings: object) -> None:
    """Write the facts and the report of a snapshot again where they give other settings than the store."""
    facts_file = home / "snapshot.json"
    try:
        facts = json.loads(facts_file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return
    if facts["settings"] == settings:
        return
    facts["settings"] = settings
    write_atomic(
        home / "report.md", data_report.to_markdown(facts)
    )  # first: the other says whether this is done
    write_atomic(facts_file, json.dumps(facts, indent=2, ensure_ascii=False))
