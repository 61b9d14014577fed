"""Scores of a system prompt against none, from 0 to 1 per request: by rules, by a judge, or by votes.

By rules and by a judge the release generates an answer with the prompt and one without; 1 where the prompt's answer wins. By
votes nothing is generated: 1 where the prompt raises the log-probability of the chosen answer more than that of the
rejected one (the implicit reward of the prompt, as it is served).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from align.evaluation.answering.asking import Asking
from align.evaluation.answering.chat_api import ChatApi, EvaluationError, content_of
from align.evaluation.judging.judge import JudgeApi, score_of
from align.evaluation.scoring import score
from align.evaluation.win_rate import Prefer, score_by_rules
from align.prompts.candidates import NONE, Candidate

By = Literal["rules", "judge", "votes"]


class Scorer(Protocol):
    """Scores candidates on requests."""

    by: By

    async def score(self, candidate: Candidate, row: Mapping[str, Any]) -> float:
        """Return how well the candidate does on a row's request against no prompt, from 0 to 1."""


@dataclass
class Served:
    """Asks one served model; `sampling` are fields of its requests."""

    api: ChatApi
    model: str
    sampling: Mapping[str, Any] = field(default_factory=dict)

    async def answer(self, candidate: Candidate, row: Mapping[str, Any]) -> str:
        """Return the answer to a row's request with the candidate before it; the same request has one answer."""
        messages = [*candidate.messages, *row["prompt"]]
        found, _ = await self.api.chat(
            {"model": self.model, "messages": messages, "seed": 1, **self.sampling}
        )
        return content_of(found)

    async def both(self, candidate: Candidate, row: Mapping[str, Any]) -> tuple[str, str]:
        """Return the answer with the candidate and the one without."""
        return await self.answer(candidate, row), await self.answer(Candidate(NONE), row)


@dataclass
class ByRules:
    """The answer that follows more rules wins, else the preferred length."""

    served: Served
    rules: Sequence[Mapping[str, Any]]
    prefer: Prefer | None
    by: By = "rules"

    async def score(self, candidate: Candidate, row: Mapping[str, Any]) -> float:
        """Return 1 where the answer with the candidate wins, 1/2 for a tie."""
        return score_by_rules(await self.served.both(candidate, row), self.rules, self.prefer)[0]


@dataclass
class ByJudge:
    """A model judges both answers in both orders."""

    served: Served
    judge: JudgeApi
    by: By = "judge"

    async def score(self, candidate: Candidate, row: Mapping[str, Any]) -> float:
        """Return 1 where both orders prefer the candidate's answer, 1/2 where they differ or are invalid."""
        answers = await self.served.both(candidate, row)
        value = score_of(await self.judge.judge(row["prompt"], *answers))
        if self.judge.gave_up:
            raise EvaluationError(f"the judge {self.judge.plan.model} gives no valid verdicts")
        return 0.5 if value is None else value


@dataclass
class ByVotes:
    """Pairs that people decided, by the log-probabilities of their answers with the candidate and without."""

    served: Served
    by: By = "votes"

    async def score(self, candidate: Candidate, row: Mapping[str, Any]) -> float:
        """Return 1 where the candidate gains on the side of the chosen answer, 1/2 where nothing changes."""
        with_it, without = await self._margin(candidate, row), await self._margin(Candidate(NONE), row)
        return 0.5 if with_it == without else float(with_it > without)

    async def _margin(self, candidate: Candidate, row: Mapping[str, Any]) -> float:
        asking = Asking(self.served.api, {}, "")
        prompted = {**row, "prompt": [*candidate.messages, *row["prompt"]]}
        chosen, rejected = (await score(asking, self.served.model, prompted)).logps
        return chosen - rejected
