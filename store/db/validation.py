"""Checks of values that several nouns share; each raises `Invalid` naming the field."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from store.errors import Conflict, Invalid

_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def one_of(field: str, value: object, accepted: Iterable[str]) -> str:
    """Return `value` when it is among `accepted`."""
    options = tuple(accepted)
    if value not in options:
        raise Invalid(field, value, options)
    return str(value)


def deployment_name(value: object, field: str = "deployment") -> str:
    """Return the name of a deployment; no `@`, which separates a release's number."""
    if not isinstance(value, str) or not _DEPLOYMENT.fullmatch(value):
        raise Invalid(field, value, "1 to 64 letters, digits or . _ - (beginning with a letter or digit)")
    return value


def text(field: str, value: object, most: int = 1_000_000) -> str:
    """Return text that is not blank and no longer than `most` characters."""
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        raise Invalid(field, value, f"text that is not blank, at most {most:,} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(field, value, "text that is valid Unicode (in UTF-8; no lone surrogates)") from None
    return value


def json_object(field: str, value: object) -> dict[str, Any]:
    """Return a JSON object as a dict; None is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise Invalid(field, value, "an object")
    return dict(value)


def an_object(field: str, value: object) -> Mapping[str, Any]:
    """Return an object of a row from outside."""
    if not isinstance(value, Mapping):
        raise Invalid(field, value, "an object")
    return value


def a_list(field: str, value: object) -> list[Any]:
    """Return a list of a row from outside."""
    if not isinstance(value, list):
        raise Invalid(field, value, "a list")
    return value


def finite(field: str, value: object) -> float:
    """Return a number, also one that is written as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Invalid(field, value, "a finite number")
    return number


def fraction(field: str, value: object, low: float = 0.0, high: float = 1.0) -> float:
    """Return a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Invalid(field, value, f"a number from {low:g} to {high:g}")
    return float(value)


def whole(field: str, value: object, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Invalid(field, value, f"a whole number from {low} to {high:,}")
    return value


def check_move(noun: str, ref: str, before: str, after: str, table: dict[str, frozenset[str]]) -> None:
    """Raise `Invalid` for a state that `table` does not have and `Conflict` for a move that it does not allow."""
    if after not in table:
        raise Invalid("state", after, table)
    if after not in table[before]:
        allowed = ", ".join(sorted(table[before] - {before})) or "nothing"
        raise Conflict(
            f"{noun} {ref} is {before} and cannot become {after}; from {before} it may become {allowed}"
        )
