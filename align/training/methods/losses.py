"""Losses on sequence log-probabilities: pure functions, one value per example.

Letters: pi(y) and ref(y) are sequence log-probabilities under policy and reference; the log ratio of an
answer is pi(y) - ref(y), its implicit reward beta times that (2305.18290, eq. 5). Definitions agree with TRL
1.16's `DPOTrainer` and `KTOTrainer`, which a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from align.errors import RecipeError


@dataclass(frozen=True)
class PairScores:
    """Of B pairs: log ratios and lengths in tokens of the chosen and the rejected answers, each (B)."""

    chosen: Tensor
    rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    chosen_logps: Tensor

    @property
    def delta(self) -> Tensor:
        """Difference of the log ratios (B)."""
        return self.chosen - self.rejected

    @property
    def mean_delta(self) -> Tensor:
        """Difference of the log ratios per token (B)."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length


def sigmoid(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """DPO (2305.18290): -log sigmoid(beta delta)."""
    return -F.logsigmoid(beta * s.delta)


def hinge(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """SLiC's hinge (2309.06657): max(0, 1 - beta delta)."""
    return torch.relu(1 - beta * s.delta)


def ipo(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """IPO (2310.12036) on log ratios per token: (delta - 1 / (2 beta))^2."""
    return (s.mean_delta - 1 / (2 * beta)) ** 2


def robust(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """Unbiased DPO under votes flipped with probability `smoothing` (2403.00409)."""
    kept = (1 - smoothing) * F.logsigmoid(beta * s.delta)
    flipped = smoothing * F.logsigmoid(-beta * s.delta)
    return (flipped - kept) / (1 - 2 * smoothing)


def exo_pair(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """EXO for two answers (2402.00856, eq. 16), votes believed with 1 - `smoothing`."""
    win, lose = F.logsigmoid(beta * s.delta), F.logsigmoid(-beta * s.delta)
    epsilon = torch.tensor(smoothing, device=win.device)
    return win.exp() * (win - torch.log1p(-epsilon)) + lose.exp() * (lose - torch.log(epsilon))


def nca_pair(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """NCA (2402.05369) for pairs."""
    chosen, rejected = beta * s.chosen, beta * s.rejected
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


def bco_pair(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """Binary classifier loss (2404.04656) on both answers, without its reference point."""
    return -F.logsigmoid(beta * s.chosen) - F.logsigmoid(-beta * s.rejected)


def sppo_hard(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """SPPO (2405.00675) with hard votes."""
    return (s.chosen - 0.5 / beta) ** 2 + (s.rejected + 0.5 / beta) ** 2


def apo_zero(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """APO-zero (2408.06266, eq. 7): for chosen answers better than the model's own."""
    return 1 - torch.sigmoid(beta * s.chosen) + torch.sigmoid(beta * s.rejected)


def apo_down(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """APO-down (2408.06266, eq. 8): for chosen answers worse than the model's own."""
    return torch.sigmoid(beta * s.chosen) + 1 - torch.sigmoid(beta * s.delta)


def sigmoid_norm(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """DPO on log ratios per token: -log sigmoid(beta mean_delta)."""
    return -F.logsigmoid(beta * s.mean_delta)


def sft(s: PairScores, beta: float, smoothing: float) -> Tensor:
    """Negative log-likelihood per token of the chosen answers; the mean over the batch's tokens is TRL's
    term."""
    return -s.chosen_logps * s.chosen_length.numel() / s.chosen_length.sum()


PAIR_LOSSES: dict[str, Callable[[PairScores, float, float], Tensor]] = {
    f.__name__: f
    for f in (
        sigmoid,
        hinge,
        ipo,
        robust,
        exo_pair,
        nca_pair,
        bco_pair,
        sppo_hard,
        apo_zero,
        apo_down,
        sigmoid_norm,
        sft,
    )
}


def pair_loss(
    scores: PairScores,
    names: tuple[str, ...],
    weights: tuple[float, ...] | None,
    beta: float,
    smoothing: float,
) -> Tensor:
    """Return the weighted sum of the named losses, one value per pair (B). Raises `RecipeError` for an
    unknown name."""
    total = torch.zeros_like(scores.chosen)
    for name, weight in zip(names, weights or (1.0,) * len(names), strict=True):
        if name not in PAIR_LOSSES:
            raise RecipeError("loss_type", name, "one of " + ", ".join(PAIR_LOSSES))
        total = total + weight * PAIR_LOSSES[name](scores, beta, smoothing)
    return total
