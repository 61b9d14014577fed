"""Up to when each schedule's cron moments were looked at, kept over restarts in a small file."""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from common.files import write_atomic

log = logging.getLogger(__name__)


class ScheduleMoments:
    """A JSON file of times by schedule; None keeps nothing. One that cannot be read starts anew, from now."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = self._load()

    def _load(self) -> dict[str, str]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def read(self, name: str) -> datetime:
        """Return up to when a schedule was looked at; one that is new is looked at from now on."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found = datetime.fromisoformat(self._known[name])
            if found.tzinfo is not None:
                return min(found, datetime.now(UTC))  # a clock that was ahead must not stop a schedule
        now = datetime.now(UTC)
        self.write(name, now)
        return now

    def write(self, name: str, moment: datetime) -> None:
        """Keep up to when a schedule was looked at; a disk that is full costs the memory of it, not a run."""
        self._known[name] = moment.isoformat()
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(self._known, indent=1) + "\n")
        except OSError as error:
            log.warning("the times of schedules were not kept: %s", error)
