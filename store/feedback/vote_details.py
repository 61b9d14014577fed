"""What a vote says beside its choice: how clear it was, why, what is unsafe, and a comment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from store import values
from store.db import redaction, validation
from store.db.database import Store
from store.db.rows import Row, dumps, loads
from store.errors import Invalid

STRENGTHS = ("slightly", "clearly")
MAX_COMMENT = 10_000
MAX_REASONS = 20


@dataclass(frozen=True, slots=True)
class Details:
    """The details of a vote, all of them optional.

    `strength` is how much better the chosen answer is (`STRENGTHS`), `reasons` are texts by side, `unsafe` names the sides
    whose answers must not be learned, whichever is better.
    """

    strength: str | None = None
    reasons: Mapping[str, Iterable[str]] = field(default_factory=dict)
    comment: str | None = None
    unsafe: Iterable[str] = ()


NONE = Details()


def row(db: Store, given: Details, choice: str, sides: Iterable[str]) -> Row:
    """Return the columns of the details that were given. Raises `Invalid` naming the field."""
    known = tuple(sides)
    found: Row = {}
    if given.strength is not None:
        if choice not in known:
            raise Invalid("strength", given.strength, f"nothing where the choice is {choice}")
        if len(known) > 2:
            raise Invalid("strength", given.strength, "nothing where more than two answers are compared")
        found["strength"] = validation.one_of("strength", given.strength, STRENGTHS)
    reasons = {side: _reasons(db, side, texts, known) for side, texts in given.reasons.items()}
    if any(reasons.values()):
        found["reasons"] = dumps({side: list(texts) for side, texts in reasons.items() if texts}, "reasons")
    if given.comment is not None and given.comment.strip():
        found["comment"] = redaction.text(db, validation.text("comment", given.comment, MAX_COMMENT))
    unsafe = sorted({validation.one_of("unsafe", side, known) for side in given.unsafe})
    if unsafe:
        found["unsafe"] = unsafe
    return found


def read(row: Row) -> dict[str, Any]:
    """Return the details in a row of votes, as arguments of a `Vote`."""
    reasons = loads(row.get("reasons")) or {}
    return {
        "strength": row.get("strength"),
        "reasons": {side: tuple(texts) for side, texts in reasons.items()},
        "comment": row.get("comment"),
        "unsafe": tuple(row.get("unsafe") or ()),
    }


def _reasons(db: Store, side: str, texts: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    field = f"reasons.{validation.one_of('reasons', side, known)}"
    try:
        cleaned = values.clean_tags(texts)
    except Invalid as error:
        raise Invalid(field, error.value, error.accepted) from error
    if len(cleaned) > MAX_REASONS:
        raise Invalid(field, len(cleaned), f"at most {MAX_REASONS} texts")
    return redaction.tags(db, cleaned)
