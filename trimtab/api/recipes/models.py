"""Recipes."""

from __future__ import annotations

from typing import Any

from trimtab.api.base import Method, View


class RecipeView(View):
    """A recipe that runs can begin with. `values` are those that it sets; the rest are the method's defaults."""

    name: str
    method: Method
    qlora: bool
    about: str
    values: dict[str, Any]
