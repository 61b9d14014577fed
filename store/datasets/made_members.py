"""What snapshots do with made rows (store.training_data.made_rows): people's votes decide, and none is held out.

* A made row goes where people decided the same question, whatever they said.
* It is left out where its prompt may be held out: those with a chance below `reserve` are kept for votes and for
  measuring, so that no prompt is held out that a made row taught.
* The weight of each kind together is at most its share in `mix` of the weight of people's and imported rows.
"""

from __future__ import annotations

import hashlib

from store.datasets.snapshot_settings import SnapshotSettings
from store.db.database import Cursor
from store.db.rows import fetch_all
from store.training_data.made_rows import MADE_KINDS
from store.values import Conversation, Message, conversation_hash

MAX_HELDOUT = 1 / 3
"""Max share of the conversations that is held out, unless `heldout_fraction` is more."""

DECIDED = "people decided the same question"
RESERVED = "made of a prompt that is kept for held-out data"


def note(cursor: Cursor, table: str) -> None:
    """Fill `made_seqs (seq, id, kind)`: the rows of a table that nothing but a made row's evidence supports."""
    none = "" if table != "likes" and fetch_all(cursor, "select 1 from made_rows limit 1") else "limit 0"
    made = "pairs" if table == "likes" else table
    cursor.execute(
        f"""
        create or replace temp table made_seqs as
        select any_value(seq) as seq, {made}.id, any_value(made_rows.kind) as kind
        from {made}
        join evidence on subject_id = {made}.id
        left join made_rows on made_rows.id = ref
        where import_id is null
        group by {made}.id
        having bool_and(evidence.kind = 'made')
        {none}
        """
    )


def drop_decided(cursor: Cursor) -> int:
    """Delete from `scoped` the made rows whose question people or imports answer; return how many."""
    cursor.execute(
        """
        delete from scoped
        where seq in (select seq from made_seqs) and (
            question in (select question from scoped where seq not in (select seq from made_seqs))
            or versus in (
                select hash(versus_hash)
                from comparisons
                where gold is null and votes_given > 0
            )
        )
        """
    )
    gone = cursor.fetchone()
    return int(gone[0]) if gone else 0


def reserve(settings: SnapshotSettings) -> float:
    """Return the chance below which a prompt is kept for held-out data."""
    fraction = settings.heldout_fraction
    return max(fraction, MAX_HELDOUT) if fraction > 0 else 0.0


def is_reserved(prompt: Conversation, settings: SnapshotSettings) -> bool:
    """Return whether a prompt is kept for held-out data, so that no made row of it is trained on."""
    return chance_of(prompt, settings.seed) < reserve(settings)


def chance_of(prompt: Conversation, seed: int) -> float:
    """Return the chance, 0 to 1, that the split compares with the share that is held out; see `heldout_split`."""
    root = next((message for message in prompt if message.role == "user"), prompt[0])
    key = int(conversation_hash((Message(root.role, root.content),))[:16], 16)
    x = (key >> 32) ^ salt_of(seed)
    for shift, factor in ((16, 2246822507), (13, 3266489909)):
        x = ((x ^ x >> shift) * factor) & 0xFFFFFFFF
    return float((x ^ x >> 16) / 2**32)


def salt_of(seed: int) -> int:
    """Return the number of a seed that chances are mixed with."""
    return int(hashlib.sha256(str(seed).encode()).hexdigest()[:8], 16)


def bound(cursor: Cursor, settings: SnapshotSettings) -> None:
    """Scale the weights of made rows down to what their kind may weigh, beside people's and imported rows in train."""
    cursor.execute(
        """
        create or replace temp table made_weights as
        with weighed as (
            select coalesce(made_seqs.kind, 'people') as kind, sum(weight) as total
            from members
            left join made_seqs using (seq)
            where split = 'train'
            group by all
        )
        select made.kind, made.total, others.total * ($shares::double[])[list_position($kinds::varchar[], made.kind)] as most
        from weighed as made, weighed as others
        where made.kind <> 'people' and others.kind = 'people'
        """,
        {"kinds": list(MADE_KINDS), "shares": [settings.mix[kind] for kind in MADE_KINDS]},
    )
    cursor.execute(
        """
        update members
        set weight = weight * made_weights.most / total
        from made_seqs
        join made_weights using (kind)
        where made_seqs.seq = members.seq and total > made_weights.most and made_weights.most > 0
        """
    )


def unwanted(cursor: Cursor) -> str:
    """Return the condition of the made rows whose kind has no share; after `bound`."""
    return "seq in (select seq from made_seqs join made_weights using (kind) where most <= 0)"
