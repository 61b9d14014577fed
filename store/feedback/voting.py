"""Write a vote, with the pairs and the demonstration that it gives rise to."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import duckdb

from store.db import bulk, erasure_guard
from store.db.database import Cursor, Store
from store.db.rows import Row, fetch_all, messages, run
from store.errors import Conflict, NotFound
from store.feedback import leases, undone_votes
from store.message import identity, is_blank
from store.near_duplicates.index import similarity
from store.training_data import demonstrations, evidence, likes, pairs, row_support
from store.training_data.origin import UNKNOWN, Origin, common_release, of_answer
from store.values import Conversation, Demonstration, Message, PreferencePair

ALMOST_THE_SAME = 0.9
"""Jaccard similarity of words and word pairs above which a rewrite makes no pair with the answer that it changes."""

# By ids alone: with a second condition on a table, DuckDB 2.0 reads it whole in place of its index (10 ms at 300,000 rows).
_CASE = """
    select messages, comparisons.carried, deployment, gold, state, votes_wanted, votes_given, side, content,
        candidates.carried as also, release, lane, finish_reason
    from comparisons, candidates
    where id = $id and comparison_id = $id
    """


class Side(NamedTuple):
    """An answer that was shown, and where it came from; `release` is the release's record id."""

    answer: Message
    origin: Origin
    release: str | None = None

    @property
    def text(self) -> str:
        """Its text."""
        return self.answer.content


class Case(NamedTuple):
    """What a vote is about."""

    messages: Conversation
    deployment: str | None
    gold: str | None
    votes_wanted: int
    votes_given: int
    a: Side
    b: Side


class Cast(NamedTuple):
    """A vote that is written: what it was about, and the ids of its pairs and of its demonstration.

    `revised` says that it takes the place of one that its rater took back.
    """

    case: Case
    pairs: tuple[str, ...]
    demonstration: str | None
    revised: bool


def cast(db: Store, row: Row, began: datetime | None, *, fresh: bool) -> Cast:
    """Write a vote and what follows from it.

    `fresh` takes all of it for new and writes it together, in half the time; `duckdb.ConstraintException` where it is not.
    """
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, row["rater"], began)
        case = _open(cursor, row["comparison_id"])
        _take_slot(cursor, case, row)
        revised = undone_votes.has(cursor, row["comparison_id"], row["rater"])
        row = row | {"revised": True} if revised else row
        made, disliked = _derive(case, row, db.slight_weight), _dislikes(case, row)
        if fresh:
            ids = [of["id"] for _, of in made]
            reasons = [evidence.row(of["id"], of["source"], row["id"], row["rater"]) for _, of in made]
            bulk.insert_together(
                cursor, [("votes", row), *made, *(("evidence", reason) for reason in reasons), *disliked]
            )
        else:
            try:
                bulk.insert_together(cursor, [("votes", row), *disliked])
            except duckdb.ConstraintException as error:
                raise Conflict(
                    f"{row['rater']} has voted on comparison {row['comparison_id']} already"
                ) from error
            ids = []
            for table, of in made:
                ids.append(bulk.insert_once(cursor, table, of))
                evidence.add(cursor, ids[-1], of["source"], row["id"], row["rater"])
                if ids[-1] != of["id"]:
                    row_support.refresh(cursor, [ids[-1]], db.slight_weight)
    leases.of(db).release(row["comparison_id"], row["rater"])
    tables = [table for table, _ in made]
    return Cast(
        case,
        tuple(id for id, table in zip(ids, tables, strict=True) if table == "pairs"),
        next((id for id, table in zip(ids, tables, strict=True) if table == "demonstrations"), None),
        revised,
    )


def _open(cursor: Cursor, id: str) -> Case:
    """Return an open comparison, within the transaction that changes it. Raises `NotFound`, `Conflict`."""
    rows = fetch_all(cursor, _CASE, {"id": id})
    if not rows:
        raise NotFound("comparison", id)
    if rows[0]["state"] != "open":
        raise Conflict(f"comparison {id} is {rows[0]['state']} already")
    first = rows[0]
    sides = {
        row["side"]: Side(
            Message("assistant", row["content"], row["also"] or ""),
            of_answer(row["release"], row["lane"], row["finish_reason"]),
            row["release"],
        )
        for row in rows
    }
    return Case(
        messages(first["messages"], first["carried"], "messages"),
        first["deployment"],
        first["gold"],
        first["votes_wanted"],
        first["votes_given"],
        sides["a"],
        sides["b"],
    )


def _take_slot(cursor: Cursor, case: Case, row: Row) -> None:
    """Count the vote in. Without `returning`, which would make DuckDB write the whole row again, for twice the time."""
    given = case.votes_given + 1
    decided = given == case.votes_wanted
    run(
        cursor,
        "update comparisons set votes_given = $given, state = $state, decided_at = $decided_at where id = $id",
        {
            "id": row["comparison_id"],
            "given": given,
            "state": "decided" if decided else "open",
            "decided_at": row["created_at"] if decided else None,
        },
    )


def _derive(case: Case, row: Row, slight_weight: float) -> list[tuple[str, Row]]:
    """Return the rows that a vote gives rise to, with their tables; `source` says what each comes from.

    No answer that the vote calls unsafe is preferred to another.
    """
    choice, better, tags = row["choice"], row["better"], tuple(row["tags"])
    if case.gold is not None:
        return []
    made: list[tuple[Side, Side, str | None, str]] = []
    if choice in ("a", "b") and choice not in row.get("unsafe", ()):
        chosen, rejected = (case.a, case.b) if choice == "a" else (case.b, case.a)
        made.append((chosen, rejected, chosen.origin.release, "vote"))
    if better is not None:
        others = {identity(side.answer): side for side in (case.b, case.a)}
        made += [
            (Side(Message("assistant", better), UNKNOWN), side, side.origin.release, "rewrite")
            for side in (others[key] for key in dict.fromkeys(identity(s.answer) for s in (case.a, case.b)))
        ]
    rows: list[tuple[str, Row]] = []
    for chosen, rejected, release, kind in made:
        if identity(chosen.answer) == identity(rejected.answer):
            continue
        if is_blank(chosen.answer) or is_blank(rejected.answer):
            continue
        if kind == "rewrite" and similarity(chosen.text, rejected.text) > ALMOST_THE_SAME:
            continue  # it would teach to prefer a sign, and make both answers less likely
        weight = slight_weight if kind == "vote" and row.get("strength") == "slightly" else 1.0
        pair = PreferencePair(case.messages, (chosen.answer,), (rejected.answer,), weight, tags)
        ends = (chosen.origin.finish_reason, rejected.origin.finish_reason)
        rows.append(("pairs", pairs.derived(pair, case.deployment, kind, release, ends)))
    if better is not None:
        value = Demonstration(case.messages, (Message("assistant", better),), tags)
        origin = Origin(common_release(case.a.origin, case.b.origin))
        rows.append(("demonstrations", demonstrations.derived(value, case.deployment, "rewrite", origin)))
    return rows


def _dislikes(case: Case, row: Row) -> list[tuple[str, Row]]:
    """Return a dislike of each answer, with its table, that the vote calls unsafe, or of all where both are bad."""
    if case.gold is not None:
        return []
    bad = ("a", "b") if row["choice"] == "both_bad" else row.get("unsafe", ())
    shown = [side for name, side in (("b", case.b), ("a", case.a)) if name in bad]
    sides = {identity(side.answer): side for side in shown if not is_blank(side.answer)}
    return [
        (
            "likes",
            likes.disliked(
                Demonstration(case.messages, (side.answer,)),
                case.deployment,
                row["id"],
                row["rater"],
                side.origin,
            ),
        )
        for side in sides.values()
    ]
