"""Whose a conversation is: the person, else the key, that said its first turn.

A client names a conversation by an id of its own choice, so two callers may choose the same one, by chance, to share it
or to get at what another said. Each has a conversation of their own under it: the first to speak keeps the id itself,
every other gets one that follows from the id and from who they are. Turns that came with neither a name nor a key
(single-user mode, the operator on this machine) have one owner, nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from store.accounts.owners import OWNER, owner_of
from store.conversations.turn import Turn
from store.db.database import Cursor
from store.db.rows import fetch_all
from store.errors import NotFound


def own_id(given: str, owner: str) -> str:
    """Return the id of an owner's conversation where another's has the id that was given."""
    return "conv-" + hashlib.sha256(f"{owner}\0{given}".encode("utf-8", "replace")).hexdigest()[:26]


def find(cursor: Cursor, given: str, owner: str) -> str:
    """Return the id of the conversation that an owner has under an id. Raises `NotFound`."""
    owners = _owners(cursor, [given, own_id(given, owner)])
    for id in (own_id(given, owner), given):
        if owners.get(id) == owner:
            return id
    raise NotFound("conversation", given)


def owned(cursor: Cursor, turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with the ids of their owners' conversations; within the transaction that writes them."""
    speakers = [owner_of(turn.user, turn.key_id) for turn in turns]
    own = [own_id(turn.conversation_id, owner) for turn, owner in zip(turns, speakers, strict=True)]
    owners = _owners(cursor, [*own, *(turn.conversation_id for turn in turns)])
    found = []
    for turn, owner, derived in zip(turns, speakers, own, strict=True):
        given = turn.conversation_id
        holder = owners.setdefault(given, owner)
        id = derived if derived in owners or holder != owner else given
        owners.setdefault(id, owner)
        found.append(turn if id == given else replace(turn, conversation_id=id))
    return found


def _owners(cursor: Cursor, ids: list[str]) -> dict[str, str]:
    rows = fetch_all(
        cursor,
        f"select id, {OWNER} as owner from conversations where list_contains($ids, id)",
        {"ids": list(dict.fromkeys(ids))},
    )
    return {row["id"]: row["owner"] for row in rows}
