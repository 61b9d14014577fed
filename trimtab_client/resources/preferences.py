"""Comparisons, votes, raters and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trimtab_client.resources.base import Resource
from trimtab_client.resources.chat import Messages
from trimtab_client.transport import given, path
from trimtab_client.types import Comparison, Vote
from trimtab_client.values import Choice, Json, Rows, Strength


class Preferences(Resource):
    """Compare two blind answers and vote."""

    async def draw_prompt(self) -> Json:
        """GET /api/prompts/draw: `{messages}` to start a comparison from."""
        return await self._http.get("/api/prompts/draw")

    async def compare(
        self,
        messages: Messages,
        deployment: str | None = None,
        releases: Sequence[str] | None = None,
        sampling: Mapping[str, Any] | None = None,
        drawn: bool | None = None,
        answers: int | None = None,
    ) -> Comparison:
        """POST /api/comparisons: sample two to four (`answers`) blind candidates for one conversation.

        `drawn` is whether the prompt came from `draw_prompt` (False: the caller wrote it; None: unknown).
        """
        body = given(
            messages=list(messages),
            deployment=deployment,
            releases=None if releases is None else list(releases),
            sampling=dict(sampling) if sampling else None,
            drawn=drawn,
            answers=answers,
        )
        made: Comparison = await self._http.post("/api/comparisons", body)
        return made

    async def compare_branches(
        self,
        messages: Messages | None = None,
        branches: Sequence[Messages] | None = None,
        completions: Sequence[str] | None = None,
        releases: Sequence[str | None] | None = None,
        deployment: str | None = None,
    ) -> Comparison:
        """POST /api/comparisons/branches: queue continuations over several turns, to be judged at the end.

        They are `branches` of `messages`, or end with recorded answers of one conversation (`completions`).
        """
        body = given(
            messages=None if messages is None else list(messages),
            branches=None if branches is None else [list(branch) for branch in branches],
            completions=None if completions is None else list(completions),
            releases=None if releases is None else list(releases),
            deployment=deployment,
        )
        made: Comparison = await self._http.post("/api/comparisons/branches", body)
        return made

    async def offer(
        self, messages: Messages, deployment: str, conversation: str | None, sampling: Mapping[str, Any]
    ) -> Json | None:
        """POST /api/comparisons/offer: `{id, a, b, conversation}` where this turn is to be compared, else None."""
        body = {"messages": list(messages), "deployment": deployment, "sampling": dict(sampling)}
        return await self._http.post("/api/comparisons/offer", {**body, "conversation": conversation})

    async def next(self, skip: Sequence[str] = ()) -> Comparison | None:
        """GET /api/comparisons/next: a comparison this caller has not voted on, or None; none of those to `skip`."""
        found: Comparison | None = await self._http.get("/api/comparisons/next", skip=list(skip) or None)
        return found

    async def vote(
        self,
        comparison: str,
        choice: Choice | None,
        better: str | None = None,
        tags: Iterable[str] = (),
        seconds: float | None = None,
        strength: Strength | None = None,
        reasons: Mapping[str, Sequence[str]] | None = None,
        comment: str | None = None,
        unsafe: Iterable[str] = (),
        ranking: Sequence[Sequence[str]] | None = None,
    ) -> Vote:
        """POST /api/comparisons/{id}/vote; `better` is a response that beats both, `seconds` the time it took.

        `strength` is how much better the chosen answer is; `reasons` are texts by side, `unsafe` the sides to dislike and
        never to prefer. `ranking` is the order of all answers, the best first, tied ones in one list.
        """
        said = {side: list(texts) for side, texts in (reasons or {}).items() if texts}
        body = given(
            choice=choice,
            better=better or None,
            tags=list(tags) or None,
            seconds=seconds,
            strength=strength,
            reasons=said or None,
            comment=comment or None,
            unsafe=list(unsafe) or None,
            ranking=None if ranking is None else [list(tied) for tied in ranking],
        )
        cast: Vote = await self._http.post(path("api", "comparisons", comparison, "vote"), body)
        return cast

    async def undo_vote(self, comparison: str) -> Json:
        """DELETE /api/comparisons/{id}/vote: take one's own vote back, with what it gave rise to."""
        return await self._http.delete(path("api", "comparisons", comparison, "vote"))

    async def comparison(self, comparison: str) -> Comparison:
        """GET /api/comparisons/{id}: one comparison, blind."""
        found: Comparison = await self._http.get(path("api", "comparisons", comparison))
        return found

    async def skip(self, comparison: str, reason: str, comment: str | None = None) -> None:
        """POST /api/comparisons/{id}/skip: leave it undecided, with a reason; it does not come back to this caller."""
        await self._http.post(
            path("api", "comparisons", comparison, "skip"), given(reason=reason, comment=comment or None)
        )

    async def votes(
        self, limit: int = 50, before: str | None = None, everybody: bool = False, unsafe: bool = False
    ) -> Rows:
        """GET /api/votes: this caller's votes, newest first; those of `everybody` for operators."""
        found = await self._http.get(
            "/api/votes", limit=limit, before=before, everybody=everybody or None, unsafe=unsafe or None
        )
        return list(found or ())

    async def vote_summary(self) -> Json:
        """GET /api/votes/summary: this caller's votes, days in a row, gold questions and agreement."""
        return await self._http.get("/api/votes/summary")

    async def undone_votes(self, limit: int = 100, everybody: bool = False) -> Rows:
        """GET /api/votes/undone: votes that this caller took back; those of `everybody` for operators."""
        return list(await self._http.get("/api/votes/undone", limit=limit, everybody=everybody or None) or ())

    async def skipped(self, limit: int = 100) -> Rows:
        """GET /api/votes/skipped: comparisons that raters left undecided, with their reasons."""
        return list(await self._http.get("/api/votes/skipped", limit=limit) or ())

    async def leaderboard(self, deployment: str | None = None) -> Rows:
        """GET /api/leaderboard: releases ranked from votes."""
        return list(await self._http.get("/api/leaderboard", deployment=deployment) or ())

    async def raters(self) -> Rows:
        """GET /api/raters: agreement, gold questions, speed and position bias of each."""
        return list(await self._http.get("/api/raters") or ())

    async def agreement(self, deployment: str | None = None) -> Json:
        """GET /api/raters/agreement: Krippendorff's alpha."""
        return await self._http.get("/api/raters/agreement", deployment=deployment)

    async def add_gold(
        self,
        messages: Messages,
        good: str,
        bad: str,
        deployment: str | None = None,
        votes_wanted: int | None = None,
    ) -> Comparison:
        """POST /api/comparisons/gold: add a question with a known answer, to measure raters by."""
        body = given(
            messages=list(messages), good=good, bad=bad, deployment=deployment, votes_wanted=votes_wanted
        )
        made: Comparison = await self._http.post("/api/comparisons/gold", body)
        return made
