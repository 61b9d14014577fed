"""The recipes that runs can begin with."""

from __future__ import annotations

from fastapi import APIRouter

from align.recipe.recipe import about, load, names
from trimtab.api.access import Operator
from trimtab.api.recipes.models import RecipeView

router = APIRouter(prefix="/recipes", tags=["runs"])


@router.get("")
def list_recipes(principal: Operator) -> list[RecipeView]:
    """List every recipe by name: what it is for and what it sets."""
    return [_view(name) for name in names()]


def _view(name: str) -> RecipeView:
    _, values = load(name)
    method, qlora = values.pop("method"), bool(values.pop("qlora", False))
    return RecipeView(name=name, method=method, qlora=qlora, about=about(name), values=values)
