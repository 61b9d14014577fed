"""Whole continuations to compare: those that recorded answers of one conversation end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from store.conversations import message_tree
from store.conversations.ratings import answer_of
from store.db.database import Store
from store.db.rows import fetch_all
from store.errors import Conflict, Invalid
from store.feedback.comparison import Candidate
from store.values import Conversation, Message


class Branches(NamedTuple):
    """What the continuations of one conversation go on from, and they themselves; `owners`: whose words both hold."""

    messages: Conversation
    candidates: list[Candidate]
    deployment: str | None
    owners: list[str]


def of_completions(db: Store, ids: Sequence[str], owner: str | None = None) -> Branches:
    """Return the continuations that recorded answers of one conversation end, from where they part.

    `owner` (see `owner_of`) may compare answers of their own alone, None any. Raises `NotFound` for an unknown answer,
    `Conflict` for one without text, and `Invalid` where they are of different conversations or do not part at an answer.
    """
    cursor = db.read()
    answers = [answer_of(cursor, id, owner) for id in ids]
    if len({answer["conversation_id"] for answer in answers}) > 1:
        raise Invalid("completions", list(ids), "answers of one conversation")
    nodes = message_tree.nodes_in(cursor, answers[0]["conversation_id"])
    lines = []
    for id, answer in zip(ids, answers, strict=True):
        if answer["message_id"] not in nodes:
            raise Conflict(f"completion {id} has no text to compare")
        lines.append(message_tree.branch(nodes, answer["message_id"]))
    shared = 0
    while all(len(line) > shared for line in lines) and len({line[shared]["id"] for line in lines}) == 1:
        shared += 1
    parts = [line[shared:] for line in lines]
    if not shared or any(not part or part[0]["role"] != "assistant" for part in parts):
        raise Invalid(
            "completions", list(ids), "answers whose conversations part at an answer, not at a question"
        )
    candidates = [
        Candidate(
            part[-1]["content"],
            release=answer["release"],
            lane=answer["lane"],
            model=answer["model"],
            completion_id=id,
            finish_reason=answer["finish_reason"],
            carried=part[-1]["carried"] or "",
            turns=_values(part) if len(part) > 1 else (),
        )
        for id, answer, part in zip(ids, answers, parts, strict=True)
    ]
    owners = fetch_all(
        cursor,
        "select distinct owner from prompt_owners where list_contains($ids, completion_id) order by owner",
        {"ids": list(ids)},
    )
    return Branches(
        _values(lines[0][:shared]), candidates, answers[0]["deployment"], [row["owner"] for row in owners]
    )


def _values(nodes: Sequence[dict[str, object]]) -> Conversation:
    return tuple(
        Message(str(node["role"]), str(node["content"]), str(node["carried"] or "")) for node in nodes
    )
