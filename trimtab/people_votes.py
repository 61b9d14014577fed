"""An evaluation by people: pairs of its answers go to Rank, and their votes join its report when it is read."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from align.evaluation.items import from_json
from align.evaluation.judging.judge import Voted
from align.evaluation.people import PersonVote, choose_pairs, measure_people
from align.stats import share_interval
from store.db.database import Store
from store.feedback import comparisons, decided, evaluation_votes
from store.feedback.comparisons import Candidate
from store.rollout import evaluation_items
from store.rollout.evaluations import Evaluation
from store.rollout.releases import Release

TWO_VOTES = 0.2
"""Share of the pairs that two people judge, where several may."""


def voted_comparisons(db: Store, deployment: str, limit: int = 1000) -> list[Voted]:
    """Return the newest comparisons that people decided: what a judge is compared with."""
    return [
        Voted(row["id"], row["prompt_hash"], row["messages"], row["a"], row["b"], row["verdict"])
        for row in decided.list_decided(db, deployment, limit)
    ]


def ask_people(db: Store, evaluation: str, release: Release, against: Release, wanted: int) -> int:
    """Queue up to `wanted` blind pairs of an evaluation's answers; return how many were."""
    rows = evaluation_items.list_all(db, evaluation)
    prompts = {row["item"]: row["prompt"] for row in rows if row["prompt"]}
    chance = random.Random(evaluation)
    twice = TWO_VOTES if comparisons.several_may_rate(db) else 0.0
    asked = 0
    for mine, theirs in choose_pairs([from_json(row) for row in rows], len(rows), evaluation):
        if asked == wanted or mine.item not in prompts or mine.reference is None:
            continue
        sides = ((mine, release), (theirs, against))
        asked += evaluation_votes.ask(
            db,
            evaluation,
            mine.item,
            mine.reference,
            prompts[mine.item],
            [
                Candidate(item.answer or "", of.id, "pinned", finish_reason=item.finish_reason)
                for item, of in sides
            ],
            release.deployment,
            2 if chance.random() < twice else 1,
        )
    return asked


def with_votes(db: Store, evaluation: Evaluation) -> Evaluation:
    """Return an evaluation whose report has what people say: the win rate of its pairs, and how often both were bad."""
    report = evaluation.report
    if report is None:
        return evaluation
    measures = _by_people(db, evaluation) | _both_bad(db, evaluation)
    people = report.get("people")
    if people:
        people = people | {"open": evaluation_votes.open_pairs(db, evaluation.id)}
        report = report | {"people": people}
    return replace(evaluation, report=report | {"measures": report.get("measures", {}) | measures})


def _by_people(db: Store, evaluation: Evaluation) -> dict[str, Any]:
    votes = evaluation_votes.votes_on(db, evaluation.id, evaluation.release)
    if not votes:
        return {}
    items = [from_json(row) for row in evaluation_items.list_all(db, evaluation.id)]
    clusters = {item.item: item.cluster for item in items}
    cast = [
        PersonVote(vote["item"], clusters[vote["item"]], vote["value"])
        for vote in votes
        if vote["item"] in clusters
    ]
    return measure_people(items, cast)


def _both_bad(db: Store, evaluation: Evaluation) -> dict[str, Any]:
    """Return in which share of the votes on each release's comparisons both answers were bad."""
    found: dict[str, Mapping[str, Any]] = {}
    for side, release in (("release", evaluation.release), ("against", evaluation.against)):
        votes = evaluation_votes.both_bad(db, release) if release else []
        if votes:
            bad = [float(vote["bad"]) for vote in votes]
            found[side] = share_interval(bad, [vote["cluster"] for vote in votes])
    return {"both_bad_share": found} if found else {}
