"""Open WebUI's feedback export: a rated answer, the messages before it, and what else was answered there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from store import import_notes, message_text
from store.db.validation import an_object
from store.errors import Invalid

Row = Mapping[str, Any]
Ratings = dict[bytes, set[bool]]
_MESSAGES = "snapshot.chat.history.messages"


class Rated(NamedTuple):
    """The messages before a rated answer, that answer, the others there, and whether it was liked.

    An answer is a message; each of the others comes with the verdict that the chat itself notes of it, or None.
    """

    prompt: list[dict[str, Any]]
    answer: dict[str, Any]
    siblings: list[tuple[dict[str, Any], bool | None]]
    liked: bool


def pairs(row: Row) -> Row:
    """Return the first of the pairs of a rated answer and a sibling. Raises `Invalid`."""
    return all_pairs(row)[0]


def all_pairs(row: Row, ratings: Ratings | None = None) -> list[Row]:
    """Return a pair with each sibling of a rated answer, the liked one chosen. Raises `Invalid`.

    Not with a sibling that was rated alike, in the chat or in `ratings` (those of the whole file): neither is preferred.
    """
    rated = _rated(row)
    if not rated.siblings:
        raise Invalid(
            "snapshot", "one answer", "an answer with a sibling to prefer (import single ratings as likes)"
        )
    others = [
        message
        for message, noted in rated.siblings
        if message["content"] != rated.answer["content"]
        and rated.liked not in ({noted} | (ratings or {}).get(_key(rated.prompt, message), set()))
    ]
    if not others:
        verdict = "liked" if rated.liked else "disliked"
        raise Invalid(
            "data.rating",
            verdict,
            f"an answer with a sibling that says something else and was not {verdict} too",
        )
    if len(others) > 1:
        import_notes.rule("siblings")
    tags = _tags(row)
    made: list[Row] = []
    for other in others:
        sides = [rated.answer], [other]
        chosen, rejected = sides if rated.liked else sides[::-1]
        made.append({"prompt": rated.prompt, "chosen": chosen, "rejected": rejected, "tags": tags})
    return made


def likes(row: Row) -> Row:
    """Return a judgement of the rated answer alone. Raises `Invalid`."""
    rated = _rated(row)
    for name in _remarks(row["data"]):
        import_notes.unused(f"data.{name}")
    return {"prompt": rated.prompt, "completion": [rated.answer], "label": rated.liked}


def all_ratings(rows: Iterable[object]) -> Ratings:
    """Return how each answer of an export was rated, by a hash of the answer and what is before it."""
    found: Ratings = {}
    for row in rows:
        if isinstance(row, Mapping):
            try:
                rated = _rated(row)
            except Invalid:
                continue
            found.setdefault(_key(rated.prompt, rated.answer), set()).add(rated.liked)
    return found


def _key(prompt: list[dict[str, Any]], answer: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps([prompt, answer], sort_keys=True, default=str).encode()).digest()


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
    if _failed(rated):
        raise Invalid(f"{_MESSAGES}.{id}", rated.get("error"), "an answer that did not fail and is not blank")
    parent = rated.get("parentId")
    siblings = [
        (_message(other, f"{_MESSAGES}.{key}"), _noted(other))
        for key, other in history.items()
        if key != id
        and isinstance(other, Mapping)
        and other.get("parentId") == parent
        and other.get("role") == "assistant"
        and not _failed(other)
    ]
    return Rated(
        _before(history, id, parent), _message(rated, f"{_MESSAGES}.{id}"), siblings, str(rating) == "1"
    )


def _before(history: Row, id: str, parent: object) -> list[dict[str, Any]]:
    prompt: list[dict[str, Any]] = []
    passed = {id}
    while isinstance(parent, str) and parent in history:
        where = f"{_MESSAGES}.{parent}"
        if parent in passed:
            raise Invalid(f"{where}.parentId", parent, "a message before it (these go in a circle)")
        passed.add(parent)
        message = an_object(where, history[parent])
        prompt.append(_message(message, where))
        parent = message.get("parentId")
    return prompt[::-1]


def _message(message: Row, where: str) -> dict[str, Any]:
    """Return a message with its reasoning apart, which Open WebUI keeps before the answer, as HTML or in `<think>`."""
    role, content = message.get("role"), message.get("content")
    made = {"role": role, "content": content}
    if role == "assistant" and isinstance(content, str):
        made["content"], reasoning = message_text.without_reasoning(content, f"{where}.content", think=True)
        if reasoning:
            made["reasoning_content"] = reasoning
    return made


def _failed(message: Row) -> bool:
    content = message.get("content")
    return bool(message.get("error")) or content is None or (isinstance(content, str) and not content.strip())


def _noted(message: Row) -> bool | None:
    annotation = message.get("annotation")
    rating = str(annotation.get("rating")) if isinstance(annotation, Mapping) else None
    return {"1": True, "-1": False}.get(rating or "")


def _remarks(data: Row) -> dict[str, str]:
    """Return score, reason and comment of a rating, those that it has."""
    details = data.get("details")
    score = details.get("rating") if isinstance(details, Mapping) else None
    found = {"score": score, "reason": data.get("reason"), "comment": data.get("comment")}
    return {
        name: str(value).strip() for name, value in found.items() if value is not None and str(value).strip()
    }


def _tags(row: Row) -> list[str] | None:
    data = row["data"]
    tags = data.get("tags") if isinstance(data.get("tags"), list) else []
    return [*tags, *(f"{name}: {value}" for name, value in _remarks(data).items())] or None
