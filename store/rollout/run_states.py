"""States of a run and of an evaluation, and which may follow which. Pure data and checks."""

from __future__ import annotations

from typing import Literal

from store.db.validation import check_move

RunState = Literal[
    "queued", "snapshot", "training", "publishing", "evaluating", "published", "canary",
    "stable", "rejected", "rolled_back", "failed", "cancelled",
]  # fmt: skip

RUN_STATES: tuple[RunState, ...] = (
    "queued", "snapshot", "training", "publishing", "evaluating", "published", "canary",
    "stable", "rejected", "rolled_back", "failed", "cancelled",
)  # fmt: skip

# A state whose work is finished for good; `published` and `canary` wait for a decision.
RUN_FINAL: frozenset[str] = frozenset({"stable", "rejected", "rolled_back", "failed", "cancelled"})

# States in which a run goes on by itself, and can be cancelled.
RUN_UNDER_WAY: tuple[RunState, ...] = ("queued", "snapshot", "training", "publishing", "evaluating")

# A canary waits for votes or an operator; a later run would take its place, and its adapter is needed.
RUN_WORKING: tuple[RunState, ...] = (*RUN_UNDER_WAY, "canary")

# Each step may be run again (after a kill), so every working state may be entered from itself.
# `failed` and `cancelled` lead back to a working state: that is what "resume" does.
RUN_TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"queued", "snapshot", "failed", "cancelled"}),
    "snapshot": frozenset({"snapshot", "training", "failed", "cancelled"}),
    "training": frozenset({"training", "publishing", "failed", "cancelled"}),
    "publishing": frozenset({"publishing", "evaluating", "published", "failed", "cancelled"}),
    "evaluating": frozenset(
        {"evaluating", "published", "canary", "stable", "rejected", "failed", "cancelled"}
    ),
    "published": frozenset({"published", "canary", "stable", "rolled_back"}),
    "canary": frozenset({"canary", "stable", "rolled_back", "published", "failed", "cancelled"}),
    "stable": frozenset({"stable", "rolled_back"}),
    "rejected": frozenset({"canary", "stable"}),
    "rolled_back": frozenset({"canary", "stable"}),
    "failed": frozenset({"queued", "snapshot", "training", "publishing", "evaluating"}),
    "cancelled": frozenset({"queued", "snapshot", "training", "publishing", "evaluating"}),
}

EVALUATION_TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"queued", "running", "failed", "cancelled"}),
    "running": frozenset({"running", "queued", "done", "failed", "cancelled"}),
    "done": frozenset({"done"}),
    "failed": frozenset({"queued", "running"}),
    "cancelled": frozenset({"queued", "running"}),
}


def check_run_move(run_id: str, from_state: str, to_state: str) -> None:
    """Raise `Invalid` for an unknown state and `Conflict` for a transition that is not allowed."""
    check_move("run", run_id, from_state, to_state, RUN_TRANSITIONS)


def check_evaluation_move(evaluation_id: str, from_state: str, to_state: str) -> None:
    """Raise `Invalid` for an unknown state and `Conflict` for a transition that is not allowed."""
    check_move("evaluation", evaluation_id, from_state, to_state, EVALUATION_TRANSITIONS)
