"""How a canary's evidence came about: what its votes proved after each of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from store.db.database import Store
from trimtab.config.rollout_sections import CanarySettings
from trimtab.rollout.canary_test import CanaryVote, blocks, interval, wealth, wealth_against
from trimtab.rollout.weighing import weigh_canary

MAX_POINTS = 40


@dataclass(frozen=True, slots=True)
class EvidencePoint:
    """What was known at a time: complete blocks, their mean score with its interval, and the evidence both ways."""

    at: datetime
    votes: int
    blocks: int
    win_rate: float | None
    low: float
    high: float
    evidence_for: float
    evidence_against: float


def evidence_path(
    db: Store,
    deployment: str,
    policy: CanarySettings,
    excluded: tuple[str, ...] = (),
    now: datetime | None = None,
) -> list[EvidencePoint]:
    """Return the points, oldest first, at most `MAX_POINTS`; empty without a canary or votes. Raises `NotFound`.

    Votes that do not count today are left out throughout.
    """
    now = now or datetime.now(UTC)
    trial = weigh_canary(db, deployment, policy, excluded, now)
    if trial is None or not trial.duel.votes:
        return []
    votes = [CanaryVote(vote.rater, vote.at, vote.score) for vote in trial.duel.votes]
    count = min(len(votes), MAX_POINTS)
    alpha = trial.alpha_rollback or 0.05
    points = []
    for place in range(1, count + 1):
        counted = votes[: -(-len(votes) * place // count)]
        at = now if place == count else counted[-1].at
        values = blocks(counted, trial.evidence.kind, trial.duel.members, at)
        low, high = interval(values, alpha)
        mean = sum(values) / len(values) if values else None
        points.append(
            EvidencePoint(
                at, len(counted), len(values), mean, low, high, min(wealth(values), 1e12), min(wealth_against(values), 1e12)
            )
        )  # fmt: skip
    return points
