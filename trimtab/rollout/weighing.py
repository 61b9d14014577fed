"""A canary on trial: the votes that count, what they prove, and when the trial ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from store.db.database import Store
from store.feedback import raters
from store.rollout import canary_votes, deployments
from store.rollout.canary_votes import Duel
from trimtab.config.rollout_sections import CanarySettings
from trimtab.rollout.canary_test import (
    CanaryVote,
    Evidence,
    Kind,
    Verdict,
    blocks,
    kind_of,
    not_worse,
    spent,
    weigh,
)

EXCLUDED_FLAGS = frozenset({"fails gold", "too fast", "position bias"})
"""Flags of a rater whose votes decide no canary. Who disagrees with others is not left out: that would favour a side."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary's votes, their evidence, and what follows; `ended` says which maximum is reached."""

    duel: Duel
    evidence: Evidence
    alpha_promote: float | None
    alpha_rollback: float | None
    left_out: tuple[str, ...]
    ends_at: datetime
    ended: Literal["max_votes", "max_days"] | None
    verdict: Verdict | None

    def facts(self) -> dict[str, Any]:
        """Return what the audit log keeps of the decision."""
        shown = self.evidence
        return {
            "wins": self.duel.wins,
            "losses": self.duel.losses,
            "ties": self.duel.ties,
            "kind": shown.kind,
            "blocks": shown.blocks,
            "mean": shown.mean,
            "interval": [shown.low, shown.high],
            "evidence_for": min(shown.promote, 1e12),
            "evidence_against": min(shown.rollback, 1e12),
            "alpha": self.alpha_promote,
            "canary_of_the_year": self.duel.number,
            # how many, not who: the log outlives an erasure
            "raters_it_hangs_on": len(shown.without),
            "raters_left_out": len(self.left_out),
            "ended": self.ended,
        }

    def sentence(self) -> str:
        """Return who decided, as the audit log's actor."""
        end = {"max_votes": ", at the maximum of votes", "max_days": ", at the maximum of days"}
        return (
            f"votes: {self.duel.wins} for the canary, {self.duel.losses} against"
            f"{end[self.ended] if self.ended and self.evidence.verdict is None else ''}"
        )


def weigh_canary(
    db: Store,
    deployment: str,
    policy: CanarySettings,
    excluded: tuple[str, ...] = (),
    now: datetime | None = None,
) -> Trial | None:
    """Return the trial of the deployment's canary; None without one. Raises `NotFound`.

    `excluded` are raters whose votes never count (`snapshot.exclude_raters`).
    """
    if deployments.get(db, deployment).canary is None:
        return None  # asked after every vote: reading all raters' votes is for a canary
    now = now or datetime.now(UTC)
    flagged = {row.name for row in raters.report(db) if EXCLUDED_FLAGS & set(row.flags)}
    left_out = tuple(sorted(flagged | set(excluded)))
    duel = canary_votes.of_canary(db, deployment, left_out)
    if duel is None:
        return None
    kind = kind_of(max(duel.raters, len(duel.members))) if policy.raters == "auto" else policy.raters
    votes = [CanaryVote(vote.rater, vote.at, vote.score) for vote in duel.votes]
    alpha = policy.votes_alpha
    promote = None if alpha is None else spent(alpha, duel.number)
    evidence = weigh(
        votes,
        kind,
        alpha_promote=promote or 0.05,
        alpha_rollback=alpha or 0.05,
        min_votes=policy.min_votes,
        members=duel.members,
        until=now,
    )
    ends_at = duel.began + timedelta(days=policy.max_days)
    ended: Literal["max_votes", "max_days"] | None = None
    if len(votes) >= policy.max_votes:
        ended = "max_votes"
    elif now >= ends_at:
        ended = "max_days"
    verdict = None
    if promote is not None:
        verdict = evidence.verdict
        if verdict is None and ended is not None:
            verdict = _end(policy, votes, kind, duel, promote, now)
    return Trial(duel, evidence, promote, alpha, left_out, ends_at, ended, verdict)


def _end(
    policy: CanarySettings,
    votes: list[CanaryVote],
    kind: Kind,
    duel: Duel,
    alpha: float,
    now: datetime,
) -> Verdict | None:
    """Return what a trial that proved nothing ends with."""
    if policy.on_max == "ask":
        return None
    if policy.on_max == "promote_if_not_worse":
        values = blocks(votes, kind, duel.members, now)
        if not_worse(values, policy.not_worse_by, alpha):
            return "promote"
    return "rollback"
