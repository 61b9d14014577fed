"""Comparisons and votes. What a vote gives rise to commits together with the vote."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

import duckdb

from store import values
from store.accounts.owners import owner_of
from store.db import bulk, erasure_guard, redaction, validation
from store.db.database import Cursor, Store, utcnow
from store.db.rows import (
    Row,
    aware,
    check_limit,
    dumps,
    fetch_all,
    fetch_one,
    loads,
    messages,
    scalar,
    stamp,
)
from store.errors import Invalid, NotFound
from store.feedback import vote_details, voting
from store.feedback.comparison import Candidate as Candidate
from store.feedback.comparison import Comparison as Comparison
from store.feedback.comparison import Vote as Vote
from store.feedback.ranking import CHOICES as CHOICES
from store.feedback.ranking import SIDES, Order
from store.feedback.ranking import read as order_of
from store.feedback.vote_details import Details
from store.feedback.voting import turns_of
from store.ids import new_id
from store.values import Conversation

STATES = ("open", "decided", "withdrawn")

_COLUMNS = (
    "id, messages, carried, deployment, source, asked_by, owners, state, votes_wanted, votes_given, gold, "
    "created_at, decided_at"
)
_SIDES = "side, content, carried, release, lane, model, completion_id, sampling, finish_reason, turns"


Choice = Literal["a", "b", "c", "d", "tie", "both_bad"]


def create(
    db: Store,
    messages: Conversation | Sequence[object] | str,
    candidates: Sequence[Candidate],
    deployment: str | None = None,
    source: str = "rank",
    asked_by: str | None = None,
    votes_wanted: int | None = None,
    gold: str | None = None,
    began: datetime | None = None,
    owners: Iterable[str] | None = None,
    queue: str | None = None,
    propensity: float | None = None,
    evaluation: str | None = None,
    evaluation_item: str | None = None,
) -> Comparison:
    """Record two to four candidate responses to a conversation; which becomes `a` is drawn at random and stored.

    A candidate may go on for several turns (see `comparison.branch`); then all are judged at the end.

    `source` says how it came about: `typed` or `pair` (who asked brought the prompt), `drawn`, `named` or `chosen`
    (drawn, but of releases that somebody named or that `trimtab.draws` chose) or `shadow` (it comes from people's
    conversations), `eval` (answers of an evaluation's item), `rank` (one or the other).

    It is decided once it has `votes_wanted` votes: without a number one, or two in the share `db.second_votes` of
    comparisons where several people may rate, so that agreement is known. `gold` ("first", "second", "tie" or
    "both_bad") makes a gold question of it, in the order of `candidates`: its votes measure raters and teach nothing.
    `began` is when the request came in (an aware time). `owners` are those whose words the conversation holds (see
    `store.feedback.prompt_owners`), without it who asked. `queue` is what drew the prompt, `propensity` the chance with
    which it drew this prompt and these releases. Raises `Invalid`, and `Conflict` where `asked_by` was erased
    since `began`.
    """
    prompt = redaction.conversation(db, values.conversation(messages, "messages"))
    _check_candidates(candidates, gold)
    if votes_wanted is None:
        votes_wanted = 2 if gold is None and _wants_second_vote(db) else 1
    candidates = [
        replace(
            c,
            content=redaction.text(db, c.content.encode("utf-8", "replace").decode()),
            carried=redaction.carried_text(db, c.carried),
            turns=redaction.conversation(db, c.turns),
        )
        for c in candidates
    ]
    order = list(range(len(candidates)))
    secrets.SystemRandom().shuffle(order)
    if gold in ("first", "second"):
        gold = "ab"[order.index(0 if gold == "first" else 1)]
    if owners is None:
        owners = () if asked_by is None or gold is not None else (owner_of(asked_by, None),)
    id = new_id("cmp")
    sides = [c.messages for c in candidates]
    asked: Row = {
        "id": id,
        "messages": bulk.plain(prompt),
        **bulk.carrying_row({"messages": prompt}),
        "prompt_hash": values.conversation_hash(prompt),
        "versus_hash": values.versus_hash(prompt, sides[0], sides[1]),
        "deployment": deployment,
        "source": validation.text("source", source, 200),
        "asked_by": asked_by,
        "state": "open",
        "votes_wanted": validation.whole("votes_wanted", votes_wanted, 1, 1000),
        "gold": gold,
        "owners": sorted(set(owners)),
        "queue": queue,
        "propensity": propensity,
        "evaluation": evaluation,
        "evaluation_item": evaluation_item,
        "created_at": utcnow(),
    }
    shown: list[Row] = [
        {
            "comparison_id": id,
            "side": side,
            "content": candidates[place].content,
            "carried": candidates[place].carried or None,
            "release": candidates[place].release,
            "lane": candidates[place].lane,
            "model": candidates[place].model,
            "completion_id": candidates[place].completion_id,
            "sampling": dumps(candidates[place].sampling, "sampling"),
            "finish_reason": candidates[place].finish_reason,
            "turns": dumps(values.to_json(candidates[place].turns) or None, "turns"),
        }
        for side, place in zip(SIDES, order, strict=False)
    ]
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, asked_by, began)
        bulk.insert_together(cursor, [("comparisons", asked), *(("candidates", side) for side in shown)])
        return get(db, id)


def _check_candidates(candidates: Sequence[Candidate], gold: str | None) -> None:
    """Raise `Invalid` unless there are as many as can be compared, and each ends as an answer does."""
    if not 2 <= len(candidates) <= len(SIDES):
        raise Invalid("candidates", len(candidates), f"two to {len(SIDES)} candidates")
    if gold is not None:
        validation.one_of("gold", gold, ("first", "second", "tie", "both_bad"))
        if len(candidates) > 2:
            raise Invalid("candidates", len(candidates), "two candidates of a gold question")
    for number, candidate in enumerate(candidates):
        if candidate.turns and (candidate.turns[0].role, candidate.turns[-1].role) != (
            "assistant",
            "assistant",
        ):
            roles = [message.role for message in candidate.turns]
            raise Invalid(
                f"candidates[{number}].turns", roles, "messages that begin and end with the assistant"
            )


def _wants_second_vote(db: Store) -> bool:
    if secrets.randbelow(1_000_000) >= 1_000_000 * db.second_votes:
        return False
    return several_may_rate(db)


def several_may_rate(db: Store) -> bool:
    """Return whether more than one user may vote, so that a second vote can come."""
    return int(scalar(db.read(), "select count(*) from users where list_contains(roles, 'rater')")) > 1


def get(db: Store, id: str) -> Comparison:
    """Return a comparison. Raises `NotFound`."""
    cursor = db.read()
    row = fetch_one(
        cursor,
        f"select {_COLUMNS} from comparisons where id = $id",
        {"id": id},
        otherwise=NotFound("comparison", id),
    )
    return _comparison(row, _sides(cursor, id))


def list_all(
    db: Store, state: str | None = None, limit: int = 100, deployment: str | None = None
) -> list[Comparison]:
    """Return the newest comparisons, of one state or of all, newest first."""
    if state is not None:
        validation.one_of("state", state, STATES)
    cursor = db.read()
    rows = fetch_all(
        cursor,
        f"""
        select {_COLUMNS}
        from comparisons
        where ($state is null or state = $state) and ($deployment is null or deployment = $deployment)
        order by seq desc
        limit $limit
        """,
        {"state": state, "deployment": deployment, "limit": check_limit(limit)},
    )
    sides: dict[str, dict[str, Row]] = {row["id"]: {} for row in rows}
    for side in fetch_all(
        cursor,
        f"select comparison_id, {_SIDES} from candidates where comparison_id in (select unnest($ids))",
        {"ids": list(sides)},
    ):
        sides[side["comparison_id"]][side["side"]] = side
    return [_comparison(row, sides[row["id"]]) for row in rows]


def count_by_state(db: Store) -> dict[str, int]:
    """Return how many comparisons are in each state, and `total`."""
    rows = fetch_all(db.read(), "select state, count(*) as n from comparisons group by state")
    counts = {row["state"]: int(row["n"]) for row in rows}
    return {"open": 0, "decided": 0} | counts | {"total": sum(counts.values())}


def vote(
    db: Store,
    id: str,
    choice: str | None,
    rater: str,
    better: str | None = None,
    tags: Iterable[str] = (),
    seconds: float | None = None,
    began: datetime | None = None,
    owner: str | None = None,
    details: Details = vote_details.NONE,
    ranking: Sequence[Sequence[str]] | None = None,
) -> Vote:
    """Record a rater's vote and what follows from it, in one commit.

    Choice `a` or `b` makes a pair (none where the answers are alike but for reasoning, or one is blank); `ranking` of more
    answers (best first, those in one list are tied) one of each two that are not tied. `better`, a
    response that the rater wrote, makes a demonstration, and pairs better > a and better > b (none
    with an answer that it hardly changes). `both_bad` makes a dislike of each answer, `details.unsafe` of each that it
    names; nothing is made that prefers an unsafe answer. `seconds` is how long the rater
    took, `began` when the request came in (an aware time), `owner` whose words a rewrite is (see `owner_of`; without it
    the person `rater`). Raises `NotFound`; `Conflict` when the comparison is
    decided or withdrawn, this rater has voted on it, or was erased since `began`; `Invalid` naming the field.
    """
    if choice is not None or ranking is None:
        validation.one_of("choice", choice, CHOICES)
    validation.text("rater", rater, 200)
    if better is not None:
        better = redaction.text(db, validation.text("better", better))
    row: Row = {
        "id": new_id("vote"),
        "comparison_id": id,
        "rater": rater,
        "owner": owner_of(rater, None) if owner is None else owner,
        "better": better,
        "tags": list(redaction.tags(db, values.clean_tags(tags))),
        "seconds": seconds,
        "created_at": utcnow(),
    }

    def decide(sides: Iterable[str]) -> tuple[Order, Row]:
        order = order_of(choice, ranking, sides)
        return order, vote_details.row(db, details, order.choice, order.places)

    try:
        cast = voting.cast(db, row, decide, began, fresh=not db.in_transaction)
    except duckdb.ConstraintException:
        if db.in_transaction:
            raise
        # This rater has voted, or someone has preferred the same text to the same text before: all again, to see which.
        cast = voting.cast(db, row, decide, began, fresh=False)
    return Vote(
        id=str(row["id"]),
        comparison=id,
        rater=rater,
        choice=cast.row["choice"],
        better=better,
        tags=tuple(row["tags"]),
        created_at=stamp(row["created_at"]),
        seconds=seconds,
        pairs=cast.pairs,
        demonstration=cast.demonstration,
        **vote_details.read(cast.row),
        revised=bool(cast.row.get("revised")),
        places=_places(cast.row),
        deployment=cast.case.deployment,
        releases={name: side.release for name, side in cast.case.sides.items()},
    )


def votes(db: Store, id: str) -> list[Vote]:
    """Return the votes on a comparison, oldest first. Raises `NotFound`."""
    get(db, id)
    rows = fetch_all(
        db.read(),
        """
        select votes.id, comparison_id as comparison, rater, choice, better, tags, votes.created_at, seconds,
            strength, reasons, comment, unsafe, coalesce(revised, false) as revised, places,
            list(subject_id order by subject_id) filter (subject_id like 'pair-%') as pairs,
            any_value(subject_id) filter (subject_id like 'demo-%') as demonstration
        from votes
        left join evidence on evidence.ref = votes.id
        where comparison_id = $id
        group by all
        order by votes.id
        """,
        {"id": id},
    )
    return [
        Vote(
            **{
                **row,
                **vote_details.read(row),
                "tags": tuple(row["tags"]),
                "places": _places(row),
                "pairs": tuple(row["pairs"] or ()),
                "created_at": stamp(row["created_at"]),
            }
        )
        for row in rows
    ]


def _sides(cursor: Cursor, id: str) -> dict[str, Row]:
    sides = fetch_all(cursor, f"select {_SIDES} from candidates where comparison_id = $id", {"id": id})
    return {side["side"]: side for side in sides}


def _comparison(row: Row, sides: dict[str, Row]) -> Comparison:
    return Comparison(
        **{
            **{name: value for name, value in row.items() if name != "carried"},
            "messages": messages(row["messages"], row["carried"], "messages"),
            "a": _candidate(sides["a"]),
            "b": _candidate(sides["b"]),
            "more": tuple(_candidate(sides[side]) for side in SIDES[2:] if side in sides),
            "owners": tuple(row["owners"] or ()),
            "created_at": stamp(row["created_at"]),
            "decided_at": aware(row["decided_at"]),
        }
    )


def _candidate(row: Row) -> Candidate:
    return Candidate(
        content=row["content"],
        release=row["release"],
        lane=row["lane"],
        model=row["model"],
        completion_id=row["completion_id"],
        sampling=loads(row["sampling"]),
        finish_reason=row["finish_reason"],
        carried=row["carried"] or "",
        turns=turns_of(row),
    )


def _places(row: Row) -> tuple[int, ...] | None:
    return tuple(row["places"]) if row.get("places") else None
