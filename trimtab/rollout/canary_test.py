"""When people's votes decide a canary: a sequential test that may be looked at after every vote.

A test with a fixed sample would be wrong here, since somebody looks after each vote and stops when the figures please. The
evidence below is an e-value: against the hypothesis that canary and stable are equally good, it is a martingale, so by
Ville's inequality it ever reaches 1 / alpha with probability alpha at most, however often and whenever it is looked at
(Robbins' mixture; see Grünwald, de Heide and Koolen, "Safe Testing", arXiv:1906.07801). Ties say nothing and are left out.
"""

from __future__ import annotations

from typing import Literal

Verdict = Literal["promote", "rollback"]


def evidence(wins: int, losses: int) -> float:
    """How much likelier the votes are when the canary is better than when it is as good as stable.

    The likelihood ratio of `wins` against `losses`, mixed uniformly over win rates p in (1/2, 1), to p = 1/2:
    2 * integral of p^wins (1-p)^losses over (1/2, 1), times 2^n. With whole numbers that is
    sum(C(n + 1, k) for k <= wins) / ((n + 1) * C(n, wins)), n being wins + losses; the sum runs downwards in units of
    its last term, which leaves small numbers only. Infinite where it overflows.
    """
    term = total = 1.0
    for k in range(wins, 0, -1):
        term *= k / (wins + losses + 2 - k)
        total += term
    return total / (losses + 1)


def decide(wins: int, losses: int, alpha: float, min_votes: int) -> Verdict | None:
    """`promote` once the votes for the canary are evidence enough, `rollback` once those against it are, else None.

    `alpha` bounds the chance of promoting or rolling back a canary that is just as good as stable, each;
    below `min_votes` votes that prefer one of the two nothing is decided.
    """
    if wins + losses < min_votes:
        return None
    if evidence(wins, losses) >= 1 / alpha:
        return "promote"
    if evidence(losses, wins) >= 1 / alpha:
        return "rollback"
    return None
