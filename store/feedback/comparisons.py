"""Comparisons and votes. What a vote gives rise to commits together with the vote."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import duckdb

from store import carried, values
from store.db import bulk, erasure_guard, redaction, validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import (
    Row,
    aware,
    check_limit,
    dumps,
    fetch_all,
    fetch_first,
    fetch_one,
    loads,
    messages,
    run,
    scalar,
    stamp,
)
from store.errors import Conflict, Invalid, NotFound
from store.feedback import leases
from store.ids import new_id
from store.training_data import demonstrations, evidence, pairs
from store.training_data.origin import UNKNOWN, Origin, common_release, of_answer
from store.values import Conversation, Demonstration, Message, PreferencePair

STATES = ("open", "decided", "withdrawn")

_COLUMNS = "id, messages, deployment, source, asked_by, state, votes_wanted, votes_given, gold, created_at, decided_at"
# By ids alone: with a second condition on a table, DuckDB 2.0 reads it whole in place of its index (10 ms at 300,000 rows).
_CASE = """
    select messages, deployment, gold, state, votes_wanted, votes_given, side, content, release, lane, finish_reason
    from comparisons, candidates
    where id = $id and comparison_id = $id
    """
_SIDES = "side, content, release, lane, model, completion_id, sampling, finish_reason"


CHOICES = ("a", "b", "tie", "both_bad")
Choice = Literal["a", "b", "tie", "both_bad"]


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """One response of a comparison, who gave it, and why it ended (see `store.training_data.origin`).

    `release` is the release's record id.
    """

    content: str
    release: str | None = None
    lane: str | None = None
    model: str | None = None
    completion_id: str | None = None
    sampling: dict[str, Any] | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """One conversation so far and two candidates. `state` is open, decided or withdrawn.

    Which candidate is `a` was drawn at random when it was made. `gold` is the known right choice of a gold
    question, else None. `blind` is what a rater may see.
    """

    id: str
    messages: Conversation
    a: Candidate
    b: Candidate
    deployment: str | None
    source: str
    asked_by: str | None
    state: str
    votes_wanted: int
    votes_given: int
    created_at: datetime
    decided_at: datetime | None = None
    gold: str | None = None

    def blind(self) -> dict[str, Any]:
        """Return what a rater may see: id, messages and the two texts."""
        return {
            "id": self.id,
            "messages": [m.to_json() for m in self.messages],
            "a": self.a.content,
            "b": self.b.content,
        }


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """A rater's verdict.

    `pairs` and `demonstration` are the ids of what was derived from it in the same commit.
    """

    id: str
    comparison: str
    rater: str
    choice: str
    better: str | None
    tags: tuple[str, ...]
    created_at: datetime
    seconds: float | None = None
    pairs: tuple[str, ...] = ()
    demonstration: str | None = None


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
) -> Comparison:
    """Record two candidate responses to a conversation; which becomes `a` is drawn at random and stored.

    `source` says how it came about: `typed` or `pair` (who asked brought the prompt), `drawn`, `named` (drawn, but of
    releases that somebody named) or `shadow` (it comes from people's conversations), `rank` (one or the other).

    It is decided once it has `votes_wanted` votes: without a number one, or two in the share `db.second_votes` of
    comparisons where several people may rate, so that agreement is known. `gold` ("first", "second", "tie" or
    "both_bad") makes a gold question of it, in the order of `candidates`: its votes measure raters and teach nothing.
    `began` is when the request came in (an aware time). Raises `Invalid`, and `Conflict` where `asked_by` was erased
    since `began`.
    """
    prompt = redaction.conversation(db, _plain(values.conversation(messages, "messages")))
    if len(candidates) != 2:
        raise Invalid("candidates", len(candidates), "two candidates")
    if gold is not None:
        validation.one_of("gold", gold, ("first", "second", "tie", "both_bad"))
    if votes_wanted is None:
        votes_wanted = 2 if gold is None and _wants_second_vote(db) else 1
    candidates = [
        replace(c, content=redaction.text(db, c.content.encode("utf-8", "replace").decode()))
        for c in candidates
    ]
    order = [0, 1] if secrets.randbelow(2) else [1, 0]
    if gold in ("first", "second"):
        gold = "ab"[order.index(0 if gold == "first" else 1)]
    id = new_id("cmp")
    sides = [(Message("assistant", c.content),) for c in candidates]
    asked: Row = {
        "id": id,
        "messages": values.to_json(prompt),
        "prompt_hash": values.conversation_hash(prompt),
        "versus_hash": values.versus_hash(prompt, sides[0], sides[1]),
        "deployment": deployment,
        "source": validation.text("source", source, 200),
        "asked_by": asked_by,
        "state": "open",
        "votes_wanted": validation.whole("votes_wanted", votes_wanted, 1, 1000),
        "gold": gold,
        "created_at": utcnow(),
    }
    shown: list[Row] = [
        {
            "comparison_id": id,
            "side": side,
            "content": candidates[place].content,
            "release": candidates[place].release,
            "lane": candidates[place].lane,
            "model": candidates[place].model,
            "completion_id": candidates[place].completion_id,
            "sampling": dumps(candidates[place].sampling, "sampling"),
            "finish_reason": candidates[place].finish_reason,
        }
        for side, place in zip("ab", order, strict=True)
    ]
    with db.atomic() as cursor:
        erasure_guard.refuse(db, asked_by, began)
        bulk.insert_together(cursor, [("comparisons", asked), *(("candidates", side) for side in shown)])
        return get(db, id)


def _wants_second_vote(db: Store) -> bool:
    if secrets.randbelow(1_000_000) >= 1_000_000 * db.second_votes:
        return False
    return int(scalar(db.read(), "select count(*) from users where list_contains(roles, 'rater')")) > 1


def _plain(messages: Conversation) -> Conversation:
    """Return messages as a comparison keeps them, by role and text. Raises `Invalid` for tool calls."""
    for place, message in enumerate(messages):
        if calls := carried.load(message.carried).get("tool_calls"):
            raise Invalid(f"messages[{place}].tool_calls", calls, "none: tool calls are not kept")
    return tuple(Message(message.role, message.content) for message in messages)


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


def next_unvoted(db: Store, rater: str) -> Comparison | None:
    """Return the oldest open comparison that `rater` has not voted on, or None; it is theirs for two minutes.

    What as many others hold as there are votes wanted is left to them (store.feedback.leases).
    """
    held_by = leases.of(db)
    with held_by.lock:
        others = held_by.held(rater)
        row = fetch_first(
            db.read(),
            """
            select id
            from comparisons
            where state = 'open'
                and not exists (from votes where comparison_id = comparisons.id and rater = $rater)
                and votes_wanted - votes_given > coalesce(($counts::integer[])[list_position($held::varchar[], id)], 0)
            order by seq
            limit 1
            """,
            {"rater": rater, "held": list(others), "counts": list(others.values())},
        )
        if row is None:
            return None
        held_by.take(row["id"], rater)
    return get(db, row["id"])


def withdraw(db: Store, id: str) -> Comparison:
    """Take an open comparison out of the queue. Raises `NotFound`, `Conflict` unless it is open."""
    with db.atomic() as cursor:
        _open(cursor, id)
        run(cursor, "update comparisons set state = 'withdrawn' where id = $id", {"id": id})
        return get(db, id)


def vote(
    db: Store,
    id: str,
    choice: str,
    rater: str,
    better: str | None = None,
    tags: Iterable[str] = (),
    seconds: float | None = None,
    began: datetime | None = None,
) -> Vote:
    """Record a rater's verdict and what follows from it, in one commit.

    Choice `a` or `b` makes a pair (none where the texts are alike or one is blank). `better`, a response that
    the rater wrote, makes a demonstration, and pairs better > a and better > b. `seconds` is how long the rater
    took, `began` when the request came in (an aware time). Raises `NotFound`; `Conflict` when the comparison is
    decided or withdrawn, this rater has voted on it, or was forgotten since `began`; `Invalid` naming the field.
    """
    validation.one_of("choice", choice, CHOICES)
    validation.text("rater", rater, 200)
    if better is not None:
        better = redaction.text(db, validation.text("better", better))
    row: Row = {
        "id": new_id("vote"),
        "comparison_id": id,
        "rater": rater,
        "choice": choice,
        "better": better,
        "tags": list(redaction.tags(db, values.clean_tags(tags))),
        "seconds": seconds,
        "created_at": utcnow(),
    }
    try:
        made, demonstration = _cast(db, row, began, fresh=not db.in_transaction)
    except duckdb.ConstraintException:
        if db.in_transaction:
            raise
        # This rater has voted, or someone has preferred the same text to the same text before: all again, to see which.
        made, demonstration = _cast(db, row, began, fresh=False)
    return Vote(
        id=str(row["id"]),
        comparison=id,
        rater=rater,
        choice=choice,
        better=better,
        tags=tuple(row["tags"]),
        created_at=stamp(row["created_at"]),
        seconds=seconds,
        pairs=made,
        demonstration=demonstration,
    )


def votes(db: Store, id: str) -> list[Vote]:
    """Return the votes on a comparison, oldest first. Raises `NotFound`."""
    get(db, id)
    rows = fetch_all(
        db.read(),
        """
        select votes.id, comparison_id as comparison, rater, choice, better, tags, votes.created_at, seconds,
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
                "tags": tuple(row["tags"]),
                "pairs": tuple(row["pairs"] or ()),
                "created_at": stamp(row["created_at"]),
            }
        )
        for row in rows
    ]


def _cast(db: Store, row: Row, began: datetime | None, *, fresh: bool) -> tuple[tuple[str, ...], str | None]:
    """Write a vote and what follows from it; return the ids of its pairs and of its demonstration.

    `fresh` takes all of it for new and writes it together, in half the time; `duckdb.ConstraintException` where it is not.
    """
    with db.atomic() as cursor:
        erasure_guard.refuse(db, row["rater"], began)
        case = _open(cursor, row["comparison_id"])
        _take_slot(cursor, case, row)
        made = _derive(case, row)
        if fresh:
            ids = [of["id"] for _, of in made]
            reasons = [evidence.row(of["id"], of["source"], row["id"], row["rater"]) for _, of in made]
            bulk.insert_together(
                cursor, [("votes", row), *made, *(("evidence", reason) for reason in reasons)]
            )
        else:
            try:
                bulk.insert_together(cursor, [("votes", row)])
            except duckdb.ConstraintException as error:
                raise Conflict(
                    f"{row['rater']} has voted on comparison {row['comparison_id']} already"
                ) from error
            ids = []
            for table, of in made:
                ids.append(bulk.insert_once(cursor, table, of))
                evidence.add(cursor, ids[-1], of["source"], row["id"], row["rater"])
    leases.of(db).release(row["comparison_id"], row["rater"])
    tables = [table for table, _ in made]
    return (
        tuple(id for id, table in zip(ids, tables, strict=True) if table == "pairs"),
        next((id for id, table in zip(ids, tables, strict=True) if table == "demonstrations"), None),
    )


class _Side(NamedTuple):
    """An answer that was shown, and where it came from."""

    text: str
    origin: Origin


class _Case(NamedTuple):
    """What a verdict is about."""

    messages: Conversation
    deployment: str | None
    gold: str | None
    votes_wanted: int
    votes_given: int
    a: _Side
    b: _Side


def _open(cursor: Cursor, id: str) -> _Case:
    """Return an open comparison, within the transaction that changes it. Raises `NotFound`, `Conflict`."""
    rows = fetch_all(cursor, _CASE, {"id": id})
    if not rows:
        raise NotFound("comparison", id)
    if rows[0]["state"] != "open":
        raise Conflict(f"comparison {id} is {rows[0]['state']} already")
    first = rows[0]
    sides = {
        row["side"]: _Side(row["content"], of_answer(row["release"], row["lane"], row["finish_reason"]))
        for row in rows
    }
    return _Case(
        messages(first["messages"]),
        first["deployment"],
        first["gold"],
        first["votes_wanted"],
        first["votes_given"],
        sides["a"],
        sides["b"],
    )


def _take_slot(cursor: Cursor, case: _Case, row: Row) -> None:
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


def _sides(cursor: Cursor, id: str) -> dict[str, Row]:
    sides = fetch_all(cursor, f"select {_SIDES} from candidates where comparison_id = $id", {"id": id})
    return {side["side"]: side for side in sides}


def _derive(case: _Case, row: Row) -> list[tuple[str, Row]]:
    """Return the rows that a vote gives rise to, with their tables; `source` says what each comes from."""
    choice, better, tags = row["choice"], row["better"], tuple(row["tags"])
    if case.gold is not None:
        return []
    made: list[tuple[_Side, _Side, str | None, str]] = []
    if choice in ("a", "b"):
        chosen, rejected = (case.a, case.b) if choice == "a" else (case.b, case.a)
        made.append((chosen, rejected, chosen.origin.release, "vote"))
    if better is not None:
        others = {side.text: side for side in (case.b, case.a)}
        made += [
            (_Side(better, UNKNOWN), side, side.origin.release, "rewrite")
            for side in (others[text] for text in dict.fromkeys((case.a.text, case.b.text)))
        ]
    rows: list[tuple[str, Row]] = []
    for chosen, rejected, release, kind in made:
        if chosen.text == rejected.text or not chosen.text.strip() or not rejected.text.strip():
            continue
        pair = PreferencePair(
            case.messages,
            (Message("assistant", chosen.text),),
            (Message("assistant", rejected.text),),
            1.0,
            tags,
        )
        ends = (chosen.origin.finish_reason, rejected.origin.finish_reason)
        rows.append(("pairs", pairs.derived(pair, case.deployment, kind, release, ends)))
    if better is not None:
        value = Demonstration(case.messages, (Message("assistant", better),), tags)
        origin = Origin(common_release(case.a.origin, case.b.origin))
        rows.append(("demonstrations", demonstrations.derived(value, case.deployment, "rewrite", origin)))
    return rows


def _comparison(row: Row, sides: dict[str, Row]) -> Comparison:
    return Comparison(
        **{
            **row,
            "messages": messages(row["messages"]),
            "a": _candidate(sides["a"]),
            "b": _candidate(sides["b"]),
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
    )
