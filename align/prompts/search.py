"""The search: instructions by successive halving, then the best of them with examples, on development requests alone.

Test requests are not used here: the score of the best of many, on the requests that it was chosen on, is too high.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.evaluation.measures import cluster_of
from align.prompts.candidates import NONE, Candidate, Example, with_shots
from align.prompts.halving import Round, halve, planned_scores
from align.prompts.scoring import Scorer
from align.stats import share_interval
from common.chat_messages import SYSTEM_ROLES

FIRST = 8
"""Requests of the first round."""
FINALISTS = 2
"""Instructions that are scored on every development request."""


def split_rows(
    rows: Sequence[dict[str, Any]], share: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split rows by the hash of their cluster into about this share of them, and the rest."""
    first: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for row in rows:
        place = int(hashlib.sha256(f"prompts {cluster_of(row)}".encode()).hexdigest()[:8], 16) / 2**32
        (first if place < share else rest).append(row)
    return first, rest


def one_per_cluster(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Return the first row of each cluster, up to `limit` clusters drawn by hash."""
    clusters: dict[str, dict[str, Any]] = {}
    for row in rows:
        clusters.setdefault(cluster_of(row), row)
    drawn = sorted(clusters, key=lambda name: hashlib.sha256(f"search {name}".encode()).digest())
    return [clusters[name] for name in drawn[:limit]]


@dataclass(frozen=True)
class Found:
    """What a search found: the best candidates without and with examples, best first, and its rounds.

    Each of `best` has its score against no prompt on every development request, with the 95% interval. That interval is
    of the winner of many, so it is too good; the test requests give the one that counts.
    """

    best: list[tuple[Candidate, dict[str, Any]]]
    rounds: list[tuple[str, Round]]

    @property
    def winner(self) -> Candidate | None:
        """The best candidate, None where none beats having no prompt."""
        return self.best[0][0] if self.best and self.best[0][1]["value"] > 0.5 else None


@dataclass
class Search:
    """One search; `on_progress` gets finished and planned scores and what is done now."""

    scorer: Scorer
    rows: Sequence[dict[str, Any]]
    on_progress: Callable[[int, int, str], None] = lambda done, total, doing: None
    done: int = 0
    total: int = 0
    rounds: list[tuple[str, Round]] = field(default_factory=list)
    scores: dict[str, dict[int, float]] = field(default_factory=dict)

    async def run(
        self, candidates: Sequence[Candidate], examples: Sequence[Example], shots: Sequence[int]
    ) -> Found:
        """Search among instructions, then among the best ones and none with examples."""
        some = sorted({count for count in shots if count > 0})
        bare = 0 in shots or not some
        self.total = self.planned(len(candidates), len(some), bare)
        finalists: list[Candidate] = []
        if bare and candidates:
            finalists = await self._stage("instructions", candidates, FINALISTS)
        roots = [*finalists[:1], Candidate(NONE)]
        shown = [found for root in roots for count in some if (found := with_shots(root, examples, count))]
        with_examples = await self._stage("examples", shown, 1) if shown else []
        self.total = self.done
        self.on_progress(self.done, self.total, "done")
        best = [(one, self._interval(one)) for one in (*finalists[:1], *with_examples[:1])]
        best.sort(key=lambda pair: (-pair[1]["value"], len(pair[0].system_prompt or "")))
        return Found(best, self.rounds)

    def planned(self, candidates: int, shots: int, bare: bool) -> int:
        """Return how many scores the search computes at most."""
        many = len(self.rows)
        first = planned_scores(candidates, many, FIRST, FINALISTS) if candidates and bare else 0
        return first + (planned_scores(2 * shots, many, FIRST) if shots else 0)

    async def _stage(self, stage: str, candidates: Sequence[Candidate], finalists: int) -> list[Candidate]:
        by_name = {one.name: one for one in candidates}

        async def score(name: str, place: int) -> float:
            value = await self.scorer.score(by_name[name], self.rows[place])
            self.scores.setdefault(name, {})[place] = value
            self.done += 1
            self.on_progress(self.done, max(self.total, self.done), f"scoring {stage}")
            return value

        rounds = await halve(
            list(by_name),
            len(self.rows),
            score,
            FIRST,
            finalists,
            lambda found: self.rounds.append((stage, found)),
        )
        return [by_name[name] for name, _ in rounds[-1].standings]

    def _interval(self, candidate: Candidate) -> dict[str, Any]:
        values = self.scores[candidate.name]
        return share_interval(values.values(), [cluster_of(self.rows[place]) for place in values])


def report_of(found: Found, by: str, rows: int) -> dict[str, Any]:
    """Return a search as JSON: its rounds, best candidates and winner. Texts of examples are left out."""
    winner = found.winner
    return {
        "by": by,
        "development_prompts": rows,
        "rounds": [{"stage": stage, **one.to_json()} for stage, one in found.rounds],
        "best": [one.to_json() | {"development": interval} for one, interval in found.best],
        "winner": winner.name if winner else None,
    }


def conditions_in_words(rules: Sequence[Mapping[str, Any]], prefer: str | None) -> str:
    """Return rules as a model reads them, such as `max sentences: 2; shorter answers are better`."""
    parts = [f"{str(rule['rule']).replace('_', ' ')}: {rule.get('value', True)}" for rule in rules]
    return "; ".join([*parts, *([f"{prefer} answers are better"] if prefer else [])])


def without_context(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without a system message of its own, in whose place a candidate's stands; `whole_prompt` has it."""
    prompt = [turn for turn in row["prompt"] if turn.get("role") not in SYSTEM_ROLES]
    whole = {} if len(prompt) == len(row["prompt"]) else {"whole_prompt": row["prompt"]}
    return {**row, "prompt": prompt, **whole}
