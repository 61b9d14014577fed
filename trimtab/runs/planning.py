"""What a run would need on this machine, before anything of it exists: the recipe's plan over rows of the store.

Imports no torch: a graphics card is asked through its driver's own tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from align.recipe.auto import facts_of, with_auto, with_balance
from align.recipe.plan import Plan, Rows, count_rows, plan, require_fit
from align.recipe.recipe import Recipe, resolve
from common.gpu_cards import read_cards
from store.db.database import Store
from store.errors import Conflict
from store.training_data import demonstrations, likes, pairs
from trimtab.config.training_sections import TrainingSettings
from trimtab.runs.worker_device import UnknownDevice, choose_cards

SAMPLE = 256
"""Rows whose tokens are counted, the newest."""


@dataclass(frozen=True)
class Machine:
    """Where the worker will train: `cpu` or `cuda`, bytes free now and in all, FLOP/s of matrix products if known."""

    device: str
    free: float
    total: float
    rate: float | None = None


def this_machine(device: str = "auto", processes: int = 1) -> Machine:
    """Ask the system, or the driver of the cards that a run would take (`training.device`) where torch can use them.

    Raises Conflict for a card that is not there.
    """
    if device != "cpu" and "+cpu" not in version("torch"):
        try:
            cards = choose_cards(device, read_cards(), processes)
        except UnknownDevice as error:
            raise Conflict(str(error)) from error
        if cards:
            return Machine("cuda", min(card.free for card in cards), min(card.total for card in cards))
    memory = psutil.virtual_memory()
    cores = len(psutil.Process().cpu_affinity()) or 1
    return Machine("cpu", float(memory.available), float(memory.total), 40e9 * cores)


def recipe_of(
    settings: TrainingSettings, method: str, qlora: bool, params: Mapping[str, Any], recipe: str | None
) -> Recipe:
    """Return the complete recipe of a request: its parameters over the named recipe and the settings. Raises RecipeError."""
    return resolve(method, qlora, params, recipe, {"save_steps": settings.checkpoint_steps})


def store_rows(db: Store, method: str, deployment: str) -> tuple[list[dict[str, Any]], int]:
    """Return the newest rows that `method` would train on, as a snapshot holds them, and how many there are in all."""
    if method == "dpo":
        found = [row.pair.to_json() for row in pairs.list_page(db, SAMPLE, deployment=deployment)]
        return found, pairs.count(db, deployment)
    if method == "kto":
        return likes.list_recent(db, SAMPLE), sum(likes.count(db, deployment).values())
    shown = [
        row.demonstration.to_json() for row in demonstrations.list_page(db, SAMPLE, deployment=deployment)
    ]
    return shown, demonstrations.count(db, deployment)


def make_plan(
    db: Store,
    recipe: Recipe,
    deployment: str,
    base: Path,
    machine: Machine | None = None,
    device: str = "auto",
    start: Path | None = None,
) -> tuple[Plan, Rows, Machine, Recipe]:
    """Return the plan of a run of `recipe` against what is free now, and the recipe with its "auto" values chosen.

    The rows are all of the store's, of which a snapshot holds some out. Raises `Conflict` without rows, `ModelError`.
    """
    rows, total = store_rows(db, recipe.method, deployment)
    if not rows:
        raise Conflict(f"nothing to plan for: {deployment} has no rows for {recipe.method} yet")
    counted = count_rows(rows, total, base, recipe.method)
    machine = machine or this_machine(device, recipe.num_processes)
    recipe = with_auto(recipe, facts_of(base, total, start))
    if recipe.method == "kto":
        labels = likes.count(db, deployment)
        recipe = with_balance(recipe, ((True, labels["liked"]), (False, labels["disliked"])))
    return plan(base, recipe, counted, machine.device, machine.free, machine.rate), counted, machine, recipe


def require_fits(estimate: Plan, machine: Machine) -> None:
    """Raise `PlanError` for a run that would not fit even with the whole machine to itself.

    What others use now may be free by the time the run's turn comes.
    """
    require_fit(estimate.within(machine.total))
