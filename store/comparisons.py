"""Comparisons and votes. What a vote gives rise to commits together with the vote."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace

import duckdb

from store import checks, demonstrations, pairs, redaction, values
from store.database import Cursor, Store, utcnow
from store.errors import Conflict, Invalid, NotFound
from store.ids import new_id
from store.records import CHOICES, Candidate, Comparison, Vote
from store.rows import Row, aware, check_limit, dumps, fetch_all, fetch_one, loads, messages, stamp
from store.values import Conversation, Demonstration, Message, PreferencePair

STATES = ("open", "decided", "withdrawn")

_COLUMNS = "id, messages, deployment, source, asked_by, state, votes_wanted, votes_given, gold, created_at, decided_at"
_SIDES = "side, content, release, lane, model, completion_id, sampling"


def create(
    db: Store,
    messages: Conversation | Sequence[object] | str,
    candidates: Sequence[Candidate],
    deployment: str | None = None,
    source: str = "rank",
    asked_by: str | None = None,
    votes_wanted: int = 1,
    gold: str | None = None,
) -> Comparison:
    """Record two candidate responses to a conversation; which becomes `a` is drawn at random and stored.

    It is decided once it has `votes_wanted` votes. `gold` ("first", "second", "tie" or "both_bad") makes a gold
    question of it, in the order of `candidates`: its votes measure raters and teach nothing. Raises
    `Invalid`.
    """
    prompt = redaction.conversation(db, values.conversation(messages, "messages"))
    if len(candidates) != 2:
        raise Invalid("candidates", len(candidates), "two candidates")
    if gold is not None:
        checks.one_of("gold", gold, ("first", "second", "tie", "both_bad"))
    candidates = [
        replace(c, content=redaction.text(db, c.content.encode("utf-8", "replace").decode()))
        for c in candidates
    ]
    order = [0, 1] if secrets.randbelow(2) else [1, 0]
    if gold in ("first", "second"):
        gold = "ab"[order.index(0 if gold == "first" else 1)]
    id = new_id("cmp")
    sides = [(Message("assistant", c.content),) for c in candidates]
    with db.atomic() as cursor:
        cursor.execute(
            """
            insert into comparisons (id, messages, prompt_hash, versus_hash, deployment, source, asked_by,
            state,
                votes_wanted, gold, created_at)
            values ($id, $messages, $prompt_hash, $versus_hash, $deployment, $source, $asked_by, 'open',
                $votes_wanted, $gold, $now)
            """,
            {
                "id": id,
                "messages": values.to_json(prompt),
                "prompt_hash": values.conversation_hash(prompt),
                "versus_hash": values.versus_hash(prompt, sides[0], sides[1]),
                "deployment": deployment,
                "source": checks.text("source", source, 200),
                "asked_by": asked_by,
                "votes_wanted": checks.whole("votes_wanted", votes_wanted, 1, 1000),
                "gold": gold,
                "now": utcnow(),
            },
        )
        for side, place in zip("ab", order, strict=True):
            candidate = candidates[place]
            cursor.execute(
                """
                insert into candidates (comparison_id, side, content, release, lane, model, completion_id,
                sampling) values ($id, $side, $content, $release, $lane, $model, $completion_id, $sampling)
                """,
                {
                    "id": id,
                    "side": side,
                    "content": candidate.content,
                    "release": candidate.release,
                    "lane": candidate.lane,
                    "model": candidate.model,
                    "completion_id": candidate.completion_id,
                    "sampling": dumps(candidate.sampling, "sampling"),
                },
            )
        return get(db, id)


def get(db: Store, id: str) -> Comparison:
    """Return a comparison. Raises `NotFound`."""
    cursor = db.read()
    row = fetch_one(cursor, f"select {_COLUMNS} from comparisons where id = $id", {"id": id})
    if row is None:
        raise NotFound("comparison", id)
    return _comparison(row, _sides(cursor, id))


def list_all(
    db: Store, state: str | None = None, limit: int = 100, deployment: str | None = None
) -> list[Comparison]:
    """Return the newest comparisons, of one state or of all, newest first."""
    if state is not None:
        checks.one_of("state", state, STATES)
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
    """Return the oldest open comparison that `rater` has not voted on, or None."""
    row = fetch_one(
        db.read(),
        """
        select id
        from comparisons
        where state = 'open'
            and not exists (from votes where comparison_id = comparisons.id and rater = $rater)
        order by seq
        limit 1
        """,
        {"rater": rater},
    )
    return get(db, row["id"]) if row else None


def withdraw(db: Store, id: str) -> Comparison:
    """Take an open comparison out of the queue. Raises `NotFound`, `Conflict` unless it is open."""
    with db.atomic() as cursor:
        cursor.execute(
            "update comparisons set state = 'withdrawn' where id = $id and state = 'open' returning id",
            {"id": id},
        )
        if cursor.fetchone() is None:
            raise Conflict(f"comparison {id} is {get(db, id).state} already")
        return get(db, id)


def vote(
    db: Store,
    id: str,
    choice: str,
    rater: str,
    better: str | None = None,
    tags: Iterable[str] = (),
    seconds: float | None = None,
) -> Vote:
    """Record a rater's verdict and what follows from it, in one commit.

    Choice `a` or `b` makes a pair (none where the texts are alike or one is blank). `better`, a response that
    the rater wrote, makes a demonstration, and pairs better > a and better > b. `seconds` is how long the
    rater took. Raises `NotFound`; `Conflict` when the comparison is decided or withdrawn, or this rater has
    voted on it; `Invalid` naming the field.
    """
    checks.one_of("choice", choice, CHOICES)
    checks.text("rater", rater, 200)
    if better is not None:
        better = redaction.text(db, checks.text("better", better))
    row: Row = {
        "id": new_id("vote"),
        "comparison": id,
        "rater": rater,
        "choice": choice,
        "better": better,
        "tags": list(values.clean_tags(tags)),
        "seconds": seconds,
        "now": utcnow(),
    }
    try:
        made, demonstration = _cast(db, row, fresh=not db.in_transaction)
    except duckdb.ConstraintException:
        if db.in_transaction:
            raise
        # Someone has preferred the same text to the same text before: all again, finding that pair.
        made, demonstration = _cast(db, row, fresh=False)
    return Vote(
        id=str(row["id"]),
        comparison=id,
        rater=rater,
        choice=choice,
        better=better,
        tags=tuple(row["tags"]),
        created_at=stamp(row["now"]),
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


def _cast(db: Store, row: Row, *, fresh: bool) -> tuple[tuple[str, ...], str | None]:
    """Write a vote and what follows from it; return the ids of its pairs and of its demonstration."""
    with db.atomic() as cursor:
        comparison = _take_slot(db, cursor, row)
        try:
            cursor.execute(
                """
                insert into votes (id, comparison_id, rater, choice, better, tags, seconds, created_at)
                values ($id, $comparison, $rater, $choice, $better, $tags, $seconds, $now)
                """,
                row,
            )
        except duckdb.ConstraintException as error:
            raise Conflict(f"{row['rater']} has voted on comparison {row['comparison']} already") from error
        return _derive(cursor, comparison, row, fresh=fresh)


def _take_slot(db: Store, cursor: Cursor, row: Row) -> Comparison:
    """Count the vote in and return the comparison.

    The update's own condition, not an earlier look, says whether there is a place left.
    """
    id = row["comparison"]
    taken = fetch_one(
        cursor,
        f"""
        update comparisons
        set votes_given = votes_given + 1,
            state = case when votes_given + 1 = votes_wanted then 'decided' else 'open' end,
            decided_at = case when votes_given + 1 = votes_wanted then $now end
        where id = $id and state = 'open'
        returning {_COLUMNS}
        """,
        {"id": id, "now": row["now"]},
    )
    if taken is None:
        raise Conflict(f"comparison {id} is {get(db, id).state} already")
    return _comparison(taken, _sides(cursor, id))


def _sides(cursor: Cursor, id: str) -> dict[str, Row]:
    sides = fetch_all(cursor, f"select {_SIDES} from candidates where comparison_id = $id", {"id": id})
    return {side["side"]: side for side in sides}


def _derive(
    cursor: Cursor, comparison: Comparison, row: Row, *, fresh: bool
) -> tuple[tuple[str, ...], str | None]:
    vote_id, choice, rater = str(row["id"]), row["choice"], row["rater"]
    better, tags = row["better"], tuple(row["tags"])
    if comparison.gold is not None:
        return (), None
    a, b = comparison.a.content, comparison.b.content
    made = []
    if choice in ("a", "b"):
        chosen, rejected = (a, b) if choice == "a" else (b, a)
        made.append((chosen, rejected, "vote"))
    demonstration = None
    if better is not None:
        made += [(better, other, "rewrite") for other in dict.fromkeys((a, b))]
        demonstration = demonstrations.derive(
            cursor,
            Demonstration(comparison.messages, (Message("assistant", better),), tags),
            comparison.deployment,
            "rewrite",
            vote_id,
            rater,
        )
    ids = []
    for chosen, rejected, kind in made:
        if chosen == rejected or not chosen.strip() or not rejected.strip():
            continue
        pair = PreferencePair(
            comparison.messages, (Message("assistant", chosen),), (Message("assistant", rejected),), 1.0, tags
        )
        ids.append(pairs.derive(cursor, pair, comparison.deployment, kind, vote_id, rater, fresh=fresh))
    return tuple(ids), demonstration


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
    )
