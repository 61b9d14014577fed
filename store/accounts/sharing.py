"""What may be done with what somebody says: nothing, show it to raters, or also train on it.

A choice belongs to an owner (`store.accounts.owners`); who made none shares what the store's default says
(`Store.share`). It is looked up when words would be shown or frozen, so a change holds for the queue and the next
snapshot. The view `prompt_owners` says whose words the prompt of a completion holds, `comparisons.owners` whose those of
a comparison: all of them must agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from store.accounts import audit
from store.db import validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import fetch_all, fetch_first, scalar, stamp

Share = Literal["none", "show", "train"]
SHARES: tuple[Share, ...] = get_args(Share)
"""Each includes those before it."""
DEFAULT: Share = "train"
Use = Literal["show", "train"]
"""What words are wanted for: to be shown to raters, or to be trained on."""


@dataclass(frozen=True, slots=True)
class Choice(Record):
    """What an owner chose to share, and when."""

    owner: str
    share: Share
    updated_at: datetime


def choice_of(db: Store, owner: str) -> Choice | None:
    """Return what an owner chose, None where the default holds."""
    row = fetch_first(
        db.read(), "select owner, share, updated_at from consents where owner = $owner", {"owner": owner}
    )
    return Choice(row["owner"], row["share"], stamp(row["updated_at"])) if row else None


def list_all(db: Store) -> list[Choice]:
    """Return every choice, by owner."""
    rows = fetch_all(db.read(), "select owner, share, updated_at from consents order by owner")
    return [Choice(row["owner"], row["share"], stamp(row["updated_at"])) for row in rows]


def choose(db: Store, owner: str, share: Share | None, actor: str | None = None) -> None:
    """Set what an owner shares; None goes back to the default. Raises `Invalid`. The audit log says who set it."""
    if share is not None:
        validation.one_of("share", share, SHARES)
    with db.atomic() as cursor:
        cursor.execute("delete from consents where owner = $owner", {"owner": owner})
        if share is not None:
            cursor.execute(
                "insert into consents (owner, share, updated_at) values ($owner, $share, $now)",
                {"owner": owner, "share": share, "now": utcnow()},
            )
        audit.record(db, actor, "person.share", owner.partition(" ")[2] or "local", {"share": share})


def allow(db: Store, owners: Iterable[str], use: Use) -> bool:
    """Return whether every owner shares what they say for a use."""
    wanted = list(owners)
    if not wanted:
        return True
    agreed = all_agree("$owners::varchar[]", use, db.share)
    return bool(scalar(db.read(), f"select {agreed}", {"owners": wanted}))


def agrees(owner: str, use: Use, default: Share) -> str:
    """Return the SQL condition that an owner (an SQL expression) shares what they say for a use."""
    enough = _enough(use)
    if _suffices(default, use):
        return f"{owner} not in (select owner from consents where share not in {enough})"
    return f"{owner} in (select owner from consents where share in {enough})"


def all_agree(owners: str, use: Use, default: Share) -> str:
    """Return the SQL condition that all of a list of owners (an SQL expression) share what they say for a use."""
    enough, owners = _enough(use), f"coalesce({owners}, [])"
    chosen = "(select coalesce(list(owner), []) from consents where share {0} {1})"
    if _suffices(default, use):
        return f"not list_has_any({owners}, {chosen.format('not in', enough)})"
    return f"list_has_all({chosen.format('in', enough)}, {owners})"


def everybody_agrees(cursor: Cursor, use: Use, default: Share) -> bool:
    """Return whether nobody keeps their words from a use, so that nothing need be looked up."""
    refused = f"select count(*) from consents where share not in {_enough(use)}"
    return _suffices(default, use) and not scalar(cursor, refused)


def withheld_rows(table: str, default: Share) -> str:
    """Return the SQL query of the ids of the pairs, demonstrations or likes that nothing may train on.

    Such a row is not imported, and whatever supports it holds words of somebody who does not share them for training.
    """
    if table == "likes":
        return f"""
            select id
            from likes
            where import_id is null and completion_id in (
                select completion_id from prompt_owners where not ({agrees("owner", "train", default)})
            )
            union
            select likes.id
            from likes
            join votes on votes.id = vote_id
            join comparisons on comparisons.id = comparison_id
            where not ({all_agree("comparisons.owners", "train", default)})
            """
    return f"""
        select subject_id as id
        from evidence
        join {table} on {table}.id = subject_id
        left join ({withheld_evidence(default)}) as withheld using (kind, ref)
        where import_id is null
        group by subject_id
        having count(withheld.ref) = count(*)
        """


def withheld_evidence(default: Share) -> str:
    """Return the SQL query of the evidence (kind, ref) that holds words which nothing may train on.

    These are the words of the prompt, and those of a rewrite. A vote holds none of who cast it.
    """
    return f"""
        select 'like' as kind, completion_id as ref
        from prompt_owners
        where not ({agrees("owner", "train", default)})
        union
        select unnest(['vote', 'rewrite']) as kind, votes.id as ref
        from votes
        join comparisons on comparisons.id = comparison_id
        where not ({all_agree("comparisons.owners", "train", default)})
        union
        select 'rewrite' as kind, votes.id as ref
        from votes
        where better is not null and not ({agrees("votes.owner", "train", default)})
        union
        select 'made' as kind, id as ref
        from made_rows
        where not ({all_agree("owners", "train", default)})
        """


def _enough(use: Use) -> str:
    """Return the shares that suffice for a use, as an SQL list."""
    return "(" + ", ".join(f"'{share}'" for share in SHARES[SHARES.index(use) :]) + ")"


def _suffices(share: Share, use: Use) -> bool:
    return SHARES.index(share) >= SHARES.index(use)
