"""Everything that a running platform consists of, as one typed value; `trimtab.app` builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from serve.auth import Authenticator
from serve.build import ServingParts
from serve.gateway.handler import Gateway
from serve.gateway.recorder import Recorder
from serve.metering.usage_writer import UsageWriter
from store.db.database import Store
from store.errors import StoreDamaged
from trimtab.background import LongWork
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.draws import Draws
from trimtab.evaluations import Evaluations
from trimtab.jobs.jobs import Jobs
from trimtab.loop import Loop
from trimtab.rollout.rollout import Rollout
from trimtab.runs.runner import Runner
from trimtab.runs.schedule import Scheduler
from trimtab.serving import Serving
from trimtab.ui_mount import Screens
from trimtab.web.sign_in_limit import SignInLimit


@dataclass
class Platform:
    """The parts, built and connected; open from the start of the app's lifespan to its end.

    `parts` are what serves, some of them named here too.
    `key` is this boot's own key, for the command line on this machine and for evaluations; `url` is where it answers.
    `stop` ends whoever serves it; `damage` is then the reason, where the store turned out to be damaged.
    """

    settings: Settings
    paths: DataPaths
    db: Store
    serving: Serving
    authenticator: Authenticator
    parts: ServingParts
    gateway: Gateway
    recorder: Recorder
    usage: UsageWriter
    loop: Loop
    runner: Runner
    rollout: Rollout
    evaluations: Evaluations
    jobs: Jobs
    long_work: LongWork
    scheduler: Scheduler
    screens: Screens
    url: str
    key: str
    started_at: datetime
    draws: Draws = field(default_factory=Draws)
    sign_in_limit: SignInLimit = field(default_factory=SignInLimit)
    settings_file: Path | None = None
    damage: StoreDamaged | None = None
    stop: Callable[[], None] = field(default=lambda: None)

    @property
    def mode(self) -> Literal["single-user", "multi-user"]:
        """`single-user` (this machine only, no login) or `multi-user`."""
        return "single-user" if self.authenticator.single_user else "multi-user"
