"""Where everything lies inside the data directory."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil

from trimtab.errors import PathRefused

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class DataPaths:
    """The data directory's layout; making one touches nothing on disk."""

    root: Path

    @property
    def store(self) -> Path:
        """The DuckDB file."""
        return self.root / "trimtab.duckdb"

    @property
    def adapters(self) -> Path:
        """Published adapters, one directory a content hash."""
        return self.root / "adapters"

    @property
    def snapshots(self) -> Path:
        """Frozen data sets, one directory a content hash."""
        return self.root / "snapshots"

    @property
    def models(self) -> Path:
        """Prepared base models, one directory a base."""
        return self.root / "models"

    @property
    def logs(self) -> Path:
        """Engine logs."""
        return self.root / "logs"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time: log-probabilities of references, kept between runs."""
        return self.root / "cache"

    @property
    def scratch(self) -> Path:
        """What requests under way keep on the disk, such as uploads; emptied when a platform starts."""
        return self.root / "scratch"

    @property
    def processes(self) -> Path:
        """Records of running child processes, to find leftovers by."""
        return self.root / "processes"

    @property
    def platform(self) -> Path:
        """Who runs here: `{pid, url, started_at, key}`, mode 0600."""
        return self.root / "platform.json"

    def run(self, run_id: str) -> Path:
        """The directory of one run."""
        return self.root / "runs" / run_id

    def model(self, base: str) -> Path:
        """The prepared directory of one base model."""
        return self.models / base

    def make(self) -> None:
        """Makes the directories that the platform writes to; only the owner may read them."""
        for path in (self.adapters, self.snapshots, self.models, self.logs, self.root / "runs"):
            path.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)

    def clear_scratch(self) -> None:
        """Empties the scratch directory of what an earlier platform had no time to remove."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True, exist_ok=True)

    def write_platform(self, facts: dict[str, Any]) -> None:
        """Says who runs here, for the command line; whole or not at all."""
        temporary = self.platform.with_suffix(".tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(facts, file)
        temporary.replace(self.platform)

    def read_platform(self) -> dict[str, Any] | None:
        """What `write_platform` wrote, while that process lives; else None."""
        try:
            facts = json.loads(self.platform.read_text())
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) and psutil.pid_exists(int(facts.get("pid", -1))) else None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes to `path`: where the system refuses that, PathRefused names it as the caller did.

    Files beside it, such as those that get its name once they are whole, count as the path itself.
    """
    try:
        yield
    except OSError as error:
        given = error.filename
        other = isinstance(given, str) and Path(given).parent != path.parent
        why = error.strerror or str(error)
        raise PathRefused(given if other else str(path), why, error.errno in _FULL) from error
    except duckdb.IOException as error:  # as DuckDB says it, which opens and writes files by itself
        raise PathRefused(str(path), str(error).removeprefix("IO Error: ")) from error
