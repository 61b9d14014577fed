"""The trackers of `report_to`. transformers speaks to them; here is whether they are there, and where they write."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.errors import RecipeError
from align.recipe.recipe import Recipe

PROJECT = "trimtab"


def require(recipe: Recipe) -> None:
    """Raise `RecipeError` naming a tracker of the recipe that is not installed."""
    missing = [name for name in recipe.report_to if importlib.util.find_spec(name) is None]
    if missing:
        raise RecipeError(
            "report_to", list(recipe.report_to), f"trackers that are installed; {missing[0]} is not"
        )


@contextmanager
def reporting(directory: Path) -> Iterator[None]:
    """While inside, TensorBoard's events go to `trackers/` of `directory` and the project or experiment is `trimtab`,
    where the environment does not say otherwise.
    """
    wanted = {
        "TENSORBOARD_LOGGING_DIR": str(directory / "trackers"),
        "WANDB_PROJECT": PROJECT,
        "MLFLOW_EXPERIMENT_NAME": PROJECT,
        "COMET_PROJECT_NAME": PROJECT,
    }
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
