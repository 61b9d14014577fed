"""Roles of people and keys: the one list of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from store.errors import Invalid

Role = Literal["chat", "rater", "ops"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role may do what those before it may."""


def read(value: object) -> tuple[str, ...]:
    """Return the roles in their fixed order, without repeats. Raises `Invalid` unless there is at least one."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise Invalid("roles", value, f"a list with at least one of {', '.join(ROLES)}")
    given = list(value)
    if not given or any(role not in ROLES for role in given):
        raise Invalid("roles", given, f"a list with at least one of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in given)
