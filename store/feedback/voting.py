"""Write a vote, with the pairs and the demonstration that it gives rise to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

import duckdb

from store.db import bulk, erasure_guard
from store.db.database import Cursor, Store
from store.db.rows import Row, fetch_all, loads, messages, run
from store.errors import Conflict, Invalid, NotFound
from store.feedback import leases, undone_votes
from store.feedback.ranking import Order
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
        candidates.carried as also, release, lane, finish_reason, turns
    from comparisons, candidates
    where id = $id and comparison_id = $id
    """


Said = tuple[tuple[str, str, str], ...]


class Side(NamedTuple):
    """An answer that was shown, and where it came from; `release` is the release's record id."""

    messages: Conversation
    origin: Origin
    release: str | None = None

    @property
    def answer(self) -> Message:
        """What it says last."""
        return self.messages[-1]

    @property
    def identity(self) -> Said:
        """What tells it from others: all but reasoning."""
        return tuple(identity(message) for message in self.messages)


class Case(NamedTuple):
    """What a vote is about."""

    messages: Conversation
    deployment: str | None
    gold: str | None
    votes_wanted: int
    votes_given: int
    sides: dict[str, Side]

    @property
    def distinct(self) -> list[Side]:
        """The answers without those that say the same as one before, from `b` on."""
        first, *others = self.sides.values()
        return list({side.identity: side for side in (*others, first)}.values())


class Cast(NamedTuple):
    """A vote that is written: its row, what it was about, and the ids of its pairs and of its demonstration."""

    row: Row
    case: Case
    pairs: tuple[str, ...]
    demonstration: str | None


Decide = Callable[[Iterable[str]], tuple[Order, Row]]
"""Reads a vote for the sides of its comparison: their order, and further columns."""


def cast(db: Store, row: Row, decide: Decide, began: datetime | None, *, fresh: bool) -> Cast:
    """Write a vote, completed by `decide`, and what follows from it.

    `fresh` takes all of it for new and writes it together, in half the time; `duckdb.ConstraintException` where it is not.
    """
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, row["rater"], began)
        case = _open(cursor, row["comparison_id"])
        order, details = decide(case.sides)
        row = row | details | {"choice": order.choice, "places": order.column()}
        _take_slot(cursor, case, row)
        if undone_votes.has(cursor, row["comparison_id"], row["rater"]):
            row["revised"] = True
        made, disliked = _derive(case, row, order, db.slight_weight), _dislikes(case, row)
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
        row,
        case,
        tuple(id for id, table in zip(ids, tables, strict=True) if table == "pairs"),
        next((id for id, table in zip(ids, tables, strict=True) if table == "demonstrations"), None),
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
            turns_of(row) or (Message("assistant", row["content"], row["also"] or ""),),
            of_answer(row["release"], row["lane"], row["finish_reason"]),
            row["release"],
        )
        for row in sorted(rows, key=lambda row: str(row["side"]))
    }
    return Case(
        messages(first["messages"], first["carried"], "messages"),
        first["deployment"],
        first["gold"],
        first["votes_wanted"],
        first["votes_given"],
        sides,
    )


def turns_of(row: Row) -> Conversation:
    """Return the messages of a candidate that goes on for several turns; none of one that is one answer."""
    return tuple(Message.from_json(message) for message in loads(row["turns"]) or ())


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


def _derive(case: Case, row: Row, order: Order, slight_weight: float) -> list[tuple[str, Row]]:
    """Return the rows that a vote gives rise to, with their tables; `source` says what each comes from.

    No answer that the vote calls unsafe is preferred to another.
    """
    better, tags, unsafe = row["better"], tuple(row["tags"]), row.get("unsafe") or ()
    if case.gold is not None:
        return []
    weight = slight_weight if row.get("strength") == "slightly" else 1.0
    made = [
        (case.sides[x], case.sides[y], case.sides[x].origin.release, "vote", weight)
        for x, y in order.preferred()
        if x not in unsafe
    ]
    if better is not None:
        if any(len(side.messages) > 1 for side in case.sides.values()):
            raise Invalid("better", better, "nothing where the answers go on for several turns")
        written = Side((Message("assistant", better),), UNKNOWN)
        made += [(written, side, side.origin.release, "rewrite", 1.0) for side in reversed(case.distinct)]
    said = {(x.identity, y.identity, kind) for x, y, _, kind, _ in made}
    rows: list[tuple[str, Row]] = []
    for chosen, rejected, release, kind, of in made:
        if _says_nothing(chosen, rejected, said, kind):
            continue
        said.discard((chosen.identity, rejected.identity, kind))  # once, where two sides say the same
        pair = PreferencePair(case.messages, chosen.messages, rejected.messages, of, tags)
        ends = (chosen.origin.finish_reason, rejected.origin.finish_reason)
        rows.append(("pairs", pairs.derived(pair, case.deployment, kind, release, ends)))
    if better is not None:
        value = Demonstration(case.messages, (Message("assistant", better),), tags)
        origins = [side.origin for side in case.sides.values()]
        origin = Origin(common_release(*origins))
        rows.append(("demonstrations", demonstrations.derived(value, case.deployment, "rewrite", origin)))
    return rows


def _says_nothing(chosen: Side, rejected: Side, said: set[tuple[Said, Said, str]], kind: str) -> bool:
    """Return whether two answers make no pair: alike, blank, said already, or the vote contradicts itself on them."""
    if chosen.identity == rejected.identity or is_blank(chosen.answer) or is_blank(rejected.answer):
        return True
    one, other = chosen.identity, rejected.identity
    if (one, other, kind) not in said or (other, one, kind) in said:
        return True
    # it would teach to prefer a sign, and make both answers less likely
    return kind == "rewrite" and similarity(chosen.answer.content, rejected.answer.content) > ALMOST_THE_SAME


def _dislikes(case: Case, row: Row) -> list[tuple[str, Row]]:
    """Return a dislike of each answer, with its table, that the vote calls unsafe, or of all where all are bad."""
    if case.gold is not None:
        return []
    bad = tuple(case.sides) if row["choice"] == "both_bad" else row.get("unsafe") or ()
    of_bad = [case.sides[name] for name in reversed(case.sides) if name in bad]
    shown = {side.identity: side for side in of_bad if not is_blank(side.answer)}
    return [
        (
            "likes",
            likes.disliked(
                Demonstration(case.messages, side.messages),
                case.deployment,
                row["id"],
                row["rater"],
                side.origin,
            ),
        )
        for side in shown.values()
    ]
