"""Open WebUI's feedback export: a rated answer, the messages before it, and what else was answered there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from store.db.validation import an_object
from store.errors import Invalid

Row = Mapping[str, Any]
_MESSAGES = "snapshot.chat.history.messages"


class Rated(NamedTuple):
    """The messages before a rated answer, that answer, another one there or None, and whether it was liked."""

    prompt: list[dict[str, Any]]
    answer: object
    sibling: object
    liked: bool


def pairs(row: Row) -> Row:
    """Return a pair: of an answer that was rated and a sibling the liked one is chosen. Raises `Invalid`."""
    rated = _rated(row)
    if rated.sibling is None:
        raise Invalid(
            "snapshot", "one answer", "an answer with a sibling to prefer (import single ratings as likes)"
        )
    sides = (rated.answer, rated.sibling)
    chosen, rejected = sides if rated.liked else sides[::-1]
    tags = row["data"].get("tags")
    return {
        "prompt": rated.prompt,
        "chosen": chosen,
        "rejected": rejected,
        "tags": tags if isinstance(tags, list) else None,
    }


def likes(row: Row) -> Row:
    """Return a judgement of the rated answer alone. Raises `Invalid`."""
    rated = _rated(row)
    return {"prompt": rated.prompt, "completion": rated.answer, "label": rated.liked}


def _rated(row: Row) -> Rated:
    rating = an_object("data", row.get("data")).get("rating")
    if str(rating) not in ("1", "-1"):
        raise Invalid("data.rating", rating, "1 or -1")
    chat = an_object("snapshot.chat", an_object("snapshot", row.get("snapshot")).get("chat"))
    chat = an_object("snapshot.chat.chat", chat.get("chat") or chat)
    history = an_object(_MESSAGES, an_object("snapshot.chat.history", chat.get("history")).get("messages"))
    id = an_object("meta", row.get("meta")).get("message_id")
    if not isinstance(id, str) or id not in history:
        raise Invalid("meta.message_id", id, f"the key of a message in {_MESSAGES}")
    rated = an_object(f"{_MESSAGES}.{id}", history[id])
    parent = rated.get("parentId")
    siblings = [
        other.get("content")
        for key, other in history.items()
        if key != id
        and isinstance(other, Mapping)
        and other.get("parentId") == parent
        and other.get("role") == "assistant"
    ]
    prompt: list[dict[str, Any]] = []
    passed = {id}
    while isinstance(parent, str) and parent in history:
        if parent in passed:
            raise Invalid(
                f"{_MESSAGES}.{parent}.parentId", parent, "a message before it (these go in a circle)"
            )
        passed.add(parent)
        message = an_object(f"{_MESSAGES}.{parent}", history[parent])
        prompt.append({"role": message.get("role"), "content": message.get("content")})
        parent = message.get("parentId")
    return Rated(prompt[::-1], rated.get("content"), siblings[0] if siblings else None, str(rating) == "1")
