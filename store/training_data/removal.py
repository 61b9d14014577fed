"""Take single rows out of the training data, with a reason, on the record.

What learned from a row stays as it is, and so do snapshots that hold it; later ones go without. The vote behind a pair
stays too: it goes on counting for raters and canaries. The same text comes back when it is voted or imported again.
"""

from __future__ import annotations

from typing import Any

from store.accounts import audit
from store.db import listing, redaction, validation
from store.db.database import Store
from store.rollout import lineage
from store.training_data import curation, demonstrations

NOUNS = {"pairs": "pair", "demonstrations": "demonstration", "likes": "like"}
"""Kinds of rows that can be removed, by table."""


def remove(db: Store, noun: str, id: str, reason: str, actor: str | None) -> dict[str, Any]:
    """Delete a row of `noun` and what it alone gave rise to; return `{id, reason, releases}`.

    `releases` are those that learned from it. A like takes its demonstration with it. Raises `NotFound`, and `Invalid` for
    the noun or a reason that is blank or longer than 1,000 characters.
    """
    kind = NOUNS[validation.one_of("noun", noun, tuple(NOUNS))]
    reason = redaction.text(db, validation.text("reason", reason, 1000))
    with db.atomic() as cursor:
        columns = "id, completion_id" if noun == "likes" else "id"
        row = listing.one(db, kind, noun, columns, id)
        learned = [release["ref"] for release in lineage.of_items(db, [id])]
        cursor.execute("delete from evidence where subject_id = $id", {"id": id})
        cursor.execute(f"delete from {noun} where id = $id", {"id": id})
        curation.forget(cursor, [id])
        if row.get("completion_id"):
            demonstrations.withdraw(cursor, "like", row["completion_id"])
        audit.record(db, actor, f"{kind}.remove", id, {"reason": reason, "releases": learned})
    return {"id": id, "reason": reason, "releases": learned}
