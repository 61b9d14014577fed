"""Where everything lies inside the data directory."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import SettingsError

DEFAULT_DATA = "data"
"""Data directory where no setting names one."""
SETTINGS_FILE = Path("trimtab.toml")
"""Settings file of the working directory."""


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
    def schedules(self) -> Path:
        """Up to when the cron moments of each schedule were looked at."""
        return self.root / "schedules.json"

    @property
    def platform(self) -> Path:
        """Who runs here: `{pid, url, started_at, key, settings}`, mode 0600."""
        return self.root / "platform.json"

    def run(self, run_id: str) -> Path:
        """Return the directory of one run."""
        return self.root / "runs" / run_id

    def model(self, base: str) -> Path:
        """Return the prepared directory of one base model."""
        return self.models / base

    def make(self) -> None:
        """Create the directories that the platform writes to; only the owner may read them."""
        for path in (self.adapters, self.snapshots, self.models, self.logs, self.root / "runs"):
            path.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)

    def clear_scratch(self) -> None:
        """Empty the scratch directory of what an earlier platform had no time to remove."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True, exist_ok=True)

    def write_platform(self, facts: dict[str, Any]) -> None:
        """Write who runs here, for the command line; whole or not at all."""
        temporary = self.platform.with_suffix(".tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(facts, file)
        temporary.replace(self.platform)

    def read_platform(self) -> dict[str, Any] | None:
        """Return what `write_platform` wrote, while that process lives; else None."""
        try:
            facts = json.loads(self.platform.read_text())
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) and _alive(int(facts.get("pid", -1))) else None


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True


def data_directory(data: Path | None = None) -> Path:
    """Return the data directory of a command that only looks for a running platform.

    The same places in the same order as the settings (`--data`, `TRIMTAB_DATA`, `data` in ./trimtab.toml, the
    default), without the half second that validating every setting takes. Raises SettingsError for a file that
    is not TOML.
    """
    named = data or os.environ.get("TRIMTAB_DATA")
    if named is None and SETTINGS_FILE.is_file():
        try:
            named = tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8-sig")).get("data")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"settings file {SETTINGS_FILE} is not TOML: {error}"]) from error
    return Path(str(named) if named is not None else DEFAULT_DATA).absolute()
