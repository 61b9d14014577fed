"""Training runs: start, follow, cancel, resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from feedback_ui.html import parse_time
from trimtab_client import ApiError, AsyncClient
from trimtab_client.types import Plan, Run
from trimtab_client.values import RUN_RESUMABLE, RUN_UNDER_WAY, Method


@dataclass(frozen=True)
class Request:
    """What the Retrain form asks for; None leaves a parameter to the recipe."""

    method: Method
    deployment: str
    qlora: bool
    rollout: str
    gate: str
    start: str = "auto"
    recipe: str | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    beta: float | None = None
    r: int | None = None
    extra: str = ""

    def params(self) -> dict[str, Any]:
        """Return the parameters by TRL's and PEFT's own names; raises `ApiError` for an extra line that can't be read."""
        named = {"max_steps": self.max_steps, "learning_rate": self.learning_rate, "r": self.r}
        if self.method in ("dpo", "kto"):
            named["beta"] = self.beta
        return {name: value for name, value in named.items() if value is not None} | read_params(self.extra)


@dataclass(frozen=True)
class Followed:
    """A run as the screen shows it, with the rows of its metrics."""

    run: Run
    rows: list[dict[str, Any]]

    @property
    def working(self) -> bool:
        """Whether it still moves by itself."""
        return self.run.get("state") in RUN_UNDER_WAY

    @property
    def resumable(self) -> bool:
        """Whether it can be taken up again."""
        return self.run.get("state") in RUN_RESUMABLE


def read_params(text: str) -> dict[str, Any]:
    """Read `name = value` lines; values are JSON (numbers, true, lists) and otherwise plain text."""
    found: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name.isidentifier() or not value:
            raise ApiError(
                422,
                "Invalid",
                f"line {number} is {line.strip()!r}",
                field="Other parameters",
                accepted="one name = value a line",
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


async def recipes(client: AsyncClient, method: str) -> list[tuple[str, str]]:
    """Return what each recipe of a method is for, with its name."""
    rows = await client.runs.recipes()
    return [(f"{row['name']}: {row['about']}", row["name"]) for row in rows if row["method"] == method]


async def start(client: AsyncClient, wanted: Request) -> Run:
    """Queue a run."""
    return await client.runs.create(wanted.method, **_fields(wanted))


async def plan(client: AsyncClient, wanted: Request) -> Plan:
    """Return what such a run would need; starts nothing."""
    return await client.runs.plan(wanted.method, **_fields(wanted))


def _fields(wanted: Request) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "deployment": wanted.deployment,
        "qlora": wanted.qlora,
        "params": wanted.params(),
        "rollout": wanted.rollout,
        "gate": wanted.gate,
    }
    if wanted.start != "auto":
        fields["start"] = wanted.start
    if wanted.recipe:
        fields["recipe"] = wanted.recipe
    return fields


async def follow(client: AsyncClient, run: str | None) -> Followed | None:
    """Return one run with its metrics; without an id the newest; None where there is no run."""
    if run is None:
        newest = await client.runs.list(limit=1)
        if not newest:
            return None
        run = newest[0]["id"]
    return Followed(await client.runs.get(run), await client.runs.metrics(run))


async def cancel(client: AsyncClient, run: str) -> Run:
    """Cancel a run; what it has learned so far stays in its checkpoint."""
    return await client.runs.cancel(run)


async def resume(client: AsyncClient, run: str) -> Run:
    """Take a cancelled or failed run up again from its newest checkpoint."""
    return await client.runs.resume(run)


def curve(rows: list[dict[str, Any]], *names: str) -> tuple[pd.DataFrame, str | None]:
    """Return the points (step, value) of the first metric of `names` that was logged, and its name."""
    for name in names:
        points = [
            (row["step"], float(row[name]))
            for row in rows
            if isinstance(row.get(name), int | float) and row.get("step") is not None
        ]
        if points:
            return pd.DataFrame(points, columns=["step", "value"]), name
    return pd.DataFrame({"step": [], "value": []}), None


def remaining(run: Mapping[str, Any], now: datetime | None = None) -> float | None:
    """Return the seconds of training left at the pace so far; None when that is unknown."""
    step, total = run.get("step") or 0, run.get("total_steps") or 0
    if run.get("state") != "training" or step < 1 or total < step:
        return None
    left = (run.get("metrics") or {}).get("seconds_left")
    if isinstance(left, int | float):
        return float(left)
    began = [parse_time(t["at"]) for t in run.get("transitions", ()) if t.get("state") == "training"]
    if not began or began[-1] is None:
        return None
    spent = ((now or datetime.now(UTC)) - began[-1]).total_seconds()
    return spent / step * (total - step)
