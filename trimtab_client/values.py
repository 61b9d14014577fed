"""Values of the platform's HTTP contract: roles, methods, states, kinds of rows.

The client imports nothing of the platform, so it names them itself; a test compares them with the platform's.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

Json = Any
"""Parsed JSON whose fields docs/http.md lists."""

Rows = list[dict[str, Any]]
"""A list of records whose fields docs/http.md lists."""

Role = Literal["chat", "rater", "ops"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each role may do what those before it may."""

Method = Literal["dpo", "sft", "kto"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

Kind = Literal["pairs", "demonstrations", "likes"]
"""Kinds of training data."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Choice = Literal["a", "b", "c", "d", "tie", "both_bad"]
CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)

Strength = Literal["slightly", "clearly"]
STRENGTHS: Final[tuple[Strength, ...]] = get_args(Strength)

Share = Literal["none", "show", "train"]
"""What may be done with what somebody says: nothing, show it to raters, or also train on it."""
SHARES: Final[tuple[Share, ...]] = get_args(Share)

Rollout = Literal["none", "canary", "promote"]
"""How far a run rolls its release out by itself."""

GateMode = Literal["enforce", "report"]
Start = Literal["auto", "stable", "base"]

RunState = Literal[
    "queued", "snapshot", "training", "publishing", "evaluating", "published", "canary",
    "stable", "rejected", "rolled_back", "failed", "cancelled",
]  # fmt: skip
RUN_STATES: Final[tuple[RunState, ...]] = get_args(RunState)

RUN_UNDER_WAY: Final[tuple[RunState, ...]] = ("queued", "snapshot", "training", "publishing", "evaluating")
"""States that a run leaves by itself."""

RUN_RESUMABLE: Final[tuple[RunState, ...]] = ("failed", "cancelled")
RUN_ENDED_BADLY: Final[tuple[RunState, ...]] = ("failed", "cancelled", "rejected")

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JOB_UNDER_WAY: Final[tuple[JobState, ...]] = ("queued", "running")

EVALUATION_UNDER_WAY: Final = ("queued", "running")


def includes(roles: object, needed: Role) -> bool:
    """Return whether a caller with these roles has the rights of `needed`; the platform decides."""
    held = roles if isinstance(roles, list | tuple | set | frozenset) else ()
    return any(role in ROLES and ROLES.index(role) >= ROLES.index(needed) for role in held)
