"""Rows of pairs, demonstrations and likes with the columns that most data sets have, as `values` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store import import_notes, message_text
from store.errors import Invalid
from store.transfer import columns
from store.transfer.columns import Messages, Row

ANSWERS = ("completion", "output", "response", "generation", "answer")
_EXTRA = ("weight", "tags")


def pair(row: Row) -> Row:
    """Return prompt, chosen and rejected of a row that has the two answers in these columns. Raises `Invalid`."""
    columns.check_preference(row)
    return paired(row, row.get("chosen"), row.get("rejected"))


def paired(row: Row, chosen: object, rejected: object) -> Row:
    """Return a pair of two answers to what the other columns of a row ask. Raises `Invalid`."""
    before = columns.lead(row)
    transcripts: list[str] = []
    sides = [columns.side(answer, name) for name, answer in (("chosen", chosen), ("rejected", rejected))]
    whole = [answer for answer in sides if columns.whole_conversation(answer)]
    both = len(whole) == len(sides)
    asked = columns.question(row, transcripts, () if both else columns.CONVERSATIONS)
    if both:
        for name in columns.CONVERSATIONS:
            _check_known(row, name, sides)
        sides = [columns.after(before, answer) for answer in whole]
        prompt: object = asked and asked[1]
    else:
        if transcripts:
            sides = [answer.strip() if isinstance(answer, str) else answer for answer in sides]
        prompt = _asked(row, before, asked)
        if prompt is None:
            columns.only_sides(row)
    read = {**extra(row), "chosen": sides[0], "rejected": sides[1]}
    if prompt is None:
        return read
    return {**read, "messages" if asked and asked[0] == "messages" else "prompt": prompt}


def demonstration(row: Row) -> Row:
    """Return prompt and completion of a row that has its answer in a column of its own. Raises `Invalid`."""
    name = next((name for name in ANSWERS if columns.filled(row.get(name))), "completion")
    before = columns.lead(row)
    transcripts: list[str] = []
    answer = columns.side(row.get(name), name)
    asked = columns.question(
        row, transcripts, () if columns.whole_conversation(answer) else columns.CONVERSATIONS
    )
    if columns.whole_conversation(answer):
        for other in columns.CONVERSATIONS:
            _check_known(row, other, [answer])
        answer = columns.after(before, answer)
        prompt: object = asked and asked[1]
    else:
        if transcripts and isinstance(answer, str):
            answer = answer.strip()
        prompt = _asked(row, before, asked)
    if prompt is None:
        return {**extra(row), "completion": answer}
    return {
        **extra(row),
        "completion": answer,
        "messages" if asked and asked[0] == "messages" else "prompt": prompt,
    }


def conversation(row: Row, name: str) -> Row:
    """Return the messages of a row that holds a whole conversation in a column. Raises `Invalid`."""
    value = row.get(name)
    if not columns.filled(value):
        raise Invalid(name, value, "messages: at least a question and the answer to it")
    messages = columns.after(columns.lead(row), columns.read(value, name))
    last = messages[-1] if messages else None
    if isinstance(last, Mapping) and (last.get("weight") == 0 or last.get("loss") is False):
        raise Invalid(
            f"{name}[{len(messages) - 1}]", last, "an answer to learn: the last one is not marked as left out"
        )
    return {**extra(row), "messages": messages}


def judged(row: Row) -> Row:
    """Return prompt, completion and label of a row. Raises `Invalid`."""
    label = row.get("label") if row.get("label") is not None else row.get("kto_tag")
    if any(columns.filled(row.get(name)) for name in ANSWERS):
        return {**demonstration(row), "label": label}
    name = next((name for name in columns.CONVERSATIONS if columns.filled(row.get(name))), None)
    read = conversation(row, name) if name else demonstration(row)
    return {**read, "label": label}


def extra(row: Row) -> dict[str, Any]:
    """Return weight and tags of a row, where it has them."""
    return {key: row[key] for key in _EXTRA if key in row}


def _asked(row: Row, before: Messages, asked: tuple[str, Messages] | None) -> object:
    if asked is not None:
        return columns.after(before, asked[1])
    if before:
        raise Invalid(
            "prompt",
            None,
            f"a question in one of the columns {', '.join(columns.QUESTIONS)}; found: {', '.join(row)}",
        )
    return None


def _check_known(row: Row, name: str, sides: list[object]) -> None:
    """Check that whole conversations have the questions that another column has; Raises `Invalid`."""
    if not columns.filled(row.get(name)):
        return
    known = "\n".join(leaf for answer in sides for leaf in columns.leaves(answer))
    for message in columns.read(row[name], name):
        if isinstance(message, Mapping) and message.get("role", message.get("from")) in ("user", "human"):
            for leaf in columns.leaves(message):
                if not message_text.within(leaf, known):
                    raise Invalid(name, leaf, "the questions that the answers follow")
    import_notes.unused(name)
