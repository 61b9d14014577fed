"""Measures of held-out rows: a pure function of what was scored, row by row, for the release and those beside it.

Each measure maps `release`, `against`, `difference`, `anchor` and `anchor_difference`, as far as they are known, to an
estimate of align.stats; a difference is the release minus the other, paired by row. The unit is the cluster: rows of
one conversation or prompt are averaged first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.stats import difference_interval, mean_interval, share_interval

Measures = dict[str, dict[str, Any]]


@dataclass
class Scored:
    """One release on one row: log-probability and length of each answer."""

    logps: list[float]
    tokens: list[int]
    per_token: list[list[float]]


def cluster_of(row: Mapping[str, Any]) -> str:
    """Name what a row's answers depend on together: its `cluster`, else its conversation's first user message."""
    if row.get("cluster") is not None:
        return str(row["cluster"])
    turns = row["prompt"]
    first = next((turn for turn in turns if turn.get("role") == "user"), turns[0])
    return " ".join(str(first.get("content", "")).lower().split())


def choose_rows(rows: Sequence[dict[str, Any]], limit: int, seed: str) -> list[dict[str, Any]]:
    """Take `limit` rows, cluster by cluster in an order that `seed` draws; all rows where there are no more.

    Each evaluation draws anew, so that neither the oldest rows alone nor always the same ones judge. Up to half are of
    clusters with `fresh` rows, which no evaluation has seen before.
    """
    if len(rows) <= limit:
        return list(rows)
    clusters: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        clusters.setdefault(cluster_of(row), []).append(row)
    drawn = sorted(clusters, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    fresh = [name for name in drawn if any(row.get("fresh") for row in clusters[name])]
    first: list[str] = []
    for name in fresh:
        if sum(len(clusters[one]) for one in [*first, name]) > limit // 2:
            break
        first.append(name)
    order = dict.fromkeys([*first, *drawn])
    return [row for name in order for row in clusters[name]][:limit]


def measure(
    rows: Sequence[Mapping[str, Any]],
    ours: Sequence[Scored],
    theirs: Sequence[Scored] | None = None,
    anchor: Sequence[Scored] | None = None,
) -> Measures:
    """Return the measures of `ours`, beside `theirs` (stable, or what else was named) and the `anchor`.

    `rows` are the held-out rows in the order of the scores. Pairs give accuracies and rewards, likes
    (`label`) the agreement of the reward's sign with the label.
    """
    labels = [row.get("label") for row in rows]
    table = _Table([cluster_of(row) for row in rows], ours, theirs, anchor)
    if len(ours[0].logps) == 2:
        table.compare("preference_accuracy", lambda s: _win(s.logps[0] - s.logps[1]), share=True)
        table.compare(
            "preference_accuracy_per_token",
            lambda s: _win(s.logps[0] / s.tokens[0] - s.logps[1] / s.tokens[1]),
            share=True,
        )
    # Only what was liked shall become likelier.
    good = [i for i, liked in enumerate(labels) if liked is not False] or list(range(len(ours)))
    table.compare("loss", lambda s: -s.logps[0] / s.tokens[0], only=good)
    table.compare("chosen_logp_per_token", lambda s: s.logps[0] / s.tokens[0], only=good)
    if theirs is not None:
        table.rewards("reward_accuracy", theirs, labels, "reward_margin")
        fresh = [place for place, row in enumerate(rows) if row.get("fresh")]
        if 0 < len(fresh) < len(rows):
            table.rewards("fresh_reward_accuracy", theirs, labels, only=fresh)
        table.drift(theirs)
    if anchor is not None:
        table.rewards("anchor_reward_accuracy", anchor, labels)
    return table.measures


@dataclass
class _Table:
    """The measures so far, and what they are made of."""

    clusters: Sequence[str]
    ours: Sequence[Scored]
    theirs: Sequence[Scored] | None
    anchor: Sequence[Scored] | None

    def __post_init__(self) -> None:
        self.measures: Measures = {}

    def compare(
        self,
        name: str,
        value: Callable[[Scored], float],
        share: bool = False,
        only: Sequence[int] | None = None,
    ) -> None:
        """Return one value per row, for each release by itself and as paired differences."""
        places = range(len(self.ours)) if only is None else only
        clusters = [self.clusters[i] for i in places]
        interval = share_interval if share else mean_interval
        mine = [value(self.ours[i]) for i in places]
        found = self.measures[name] = {"release": interval(mine, clusters)}
        for side, difference, scored in (
            ("against", "difference", self.theirs),
            ("anchor", "anchor_difference", self.anchor),
        ):
            if scored is not None:
                other = [value(scored[i]) for i in places]
                found[side] = interval(other, clusters)
                found[difference] = difference_interval(mine, other, clusters)

    def rewards(
        self,
        name: str,
        reference: Sequence[Scored],
        labels: Sequence[bool | None],
        margin: str | None = None,
        only: Sequence[int] | None = None,
    ) -> None:
        """Implicit rewards with another release as the reference: how often their sign is right, and their margin."""
        places = list(range(len(self.ours))) if only is None else list(only)
        clusters = [self.clusters[place] for place in places]
        gains = [
            [x - y for x, y in zip(a.logps, b.logps, strict=True)]
            for a, b in ((self.ours[place], reference[place]) for place in places)
        ]
        labels = [labels[place] for place in places]
        if len(gains[0]) == 2:
            margins = [chosen - rejected for chosen, rejected in gains]
            if margin:
                self.measures[margin] = {"release": mean_interval(margins, clusters)}
        elif None not in labels:
            margins = [gain if liked else -gain for (gain,), liked in zip(gains, labels, strict=True)]
        else:
            return
        self.measures[name] = {"release": share_interval(map(_win, margins), clusters)}

    def drift(self, theirs: Sequence[Scored]) -> None:
        """Mean absolute difference of the log-probabilities of the first answer's tokens, where they are the same tokens."""
        alike = [
            i for i, (a, b) in enumerate(zip(self.ours, theirs, strict=True)) if a.tokens[0] == b.tokens[0]
        ]
        drift = [
            sum(abs(x - y) for x, y in zip(self.ours[i].per_token[0], theirs[i].per_token[0], strict=True))
            / self.ours[i].tokens[0]
            for i in alike
        ]
        if drift:
            self.measures["drift"] = {"release": mean_interval(drift, [self.clusters[i] for i in alike])}


def _win(margin: float) -> float:
    return 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0
