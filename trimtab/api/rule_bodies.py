"""Rules in request bodies: what a suite's `win_rate` has, as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from align.evaluation.suite_file import WinRate
from trimtab.api.problems import Problem

ACCEPTED = "{rules: [{rule, value}, ...], prefer: shorter | longer}, one of both"


def read_rules(given: dict[str, Any]) -> dict[str, Any]:
    """Return rules as a measurement of a suite. Raises `Problem` that names what is wrong, or `RecipeError`."""
    try:
        return WinRate.model_validate({**given, "kind": "win_rate"}).model_dump(mode="json")
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(["rules", *(str(part) for part in first["loc"])])
        raise Problem(422, f"{where}: {first['msg']}", field=where, accepted=ACCEPTED) from error
