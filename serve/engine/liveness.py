"""When an engine that does not answer its probe is dead: busy is not dead.

A probe is a generation in the queue of all others; behind long prompts on a busy machine it waits for minutes. While it
waits, what the engine does decides. A finished step or a token is progress. Computing without a finished step is borne
for `busy_timeout_s`, and neither for `probe_timeout_s`.
"""

from __future__ import annotations

from enum import Enum


class Sign(Enum):
    """What was seen of an engine in a stretch of time."""

    PROGRESS = "progress"
    COMPUTING = "computing"
    NOTHING = "nothing"


class Stall:
    """How long an engine has made no progress: `silent_s` without a sign, `busy_s` computing on one step."""

    def __init__(self, probe_timeout_s: float, busy_timeout_s: float) -> None:
        self._probe_timeout_s, self._busy_timeout_s = probe_timeout_s, busy_timeout_s
        self.silent_s = 0.0
        self.busy_s = 0.0

    def add(self, seconds: float, sign: Sign) -> None:
        """Count a stretch of time by what was seen in it."""
        if sign is Sign.NOTHING:
            self.silent_s += seconds
            return
        self.silent_s = 0.0
        self.busy_s = self.busy_s + seconds if sign is Sign.COMPUTING else 0.0

    def reason(self) -> str | None:
        """Say why the engine counts as dead, None while it does not."""
        if self.silent_s > self._probe_timeout_s:
            return (
                f"unresponsive: no token, no step and no computing for {self.silent_s:.0f} s "
                f"(probe_timeout_s is {self._probe_timeout_s:g})"
            )
        if self.busy_s > self._busy_timeout_s:
            return (
                f"unresponsive: computing for {self.busy_s:.0f} s without finishing a step "
                f"(busy_timeout_s is {self._busy_timeout_s:g})"
            )
        return None
