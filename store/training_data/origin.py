"""Under which release an answer was given and how it ended.

Training puts the same system prompt before a row as the gateway did, and does not teach the model to stop where an answer
was cut.
"""

from __future__ import annotations

from typing import NamedTuple

BASE_ALONE = ""
"""Stands for a release where a base model answered by itself, with nothing put before the conversation."""

BROKEN = "error"
"""Finish reason of an answer that broke off without one."""


class Origin(NamedTuple):
    """Where an answer comes from; None is unknown.

    `release` is a release's record id or `BASE_ALONE`. `finish_reason` is the engine's (stop, length, …), the gateway's
    `client_stopped`, or `BROKEN`.
    """

    release: str | None = None
    finish_reason: str | None = None


UNKNOWN = Origin()


def of_answer(
    release: str | None, lane: str | None, finish_reason: str | None, error: str | None = None
) -> Origin:
    """Return the origin of an answer, from what is recorded of it."""
    if release is None and lane == "base":
        release = BASE_ALONE
    return Origin(release, finish_reason or (BROKEN if error else None))


def common_release(*answers: Origin) -> str | None:
    """Return the release of some answers, None where they come from different ones."""
    return answers[0].release if len({answer.release for answer in answers}) == 1 else None
