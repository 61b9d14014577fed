"""Argilla's exports: which of a record's two responses its annotators prefer.

Three shapes: Argilla 2 nested (`responses: {question: [{value}]}`, of `to_json`) and flat (`<question>.responses`, of
`to_datasets`), Argilla 1 (`responses: [{status, values: {question: {value}}}]`). A record holds answers to several
questions: only those count that name one of the responses or rank both. What could as well be a rating (1, 2, A, B)
counts where the question's name says that it prefers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from store.db.validation import a_list, an_object
from store.errors import Invalid

Row = Mapping[str, Any]

_SIDE = re.compile(r"respon|generation|answer|completion|repl(y|ies)|chosen|rejected", re.I)
_ASKS = re.compile(r"prompt|instruction|question|input|query|chat|conversation|messages", re.I)
_PREFERS = re.compile(r"prefer|choice|choose|chosen|better|best|winner|rank|order", re.I)
_FLAT = ".responses"


def is_flat(row: Row) -> bool:
    """Tell whether a row is a record with its questions in columns."""
    return any(key.endswith(_FLAT) for key in row)


def pairs(row: Row) -> Row:
    """Return prompt, chosen, rejected and weight: the majority of the submitted answers, and its margin.

    Raises `Invalid` for what is no such record, for several questions that prefer or none, and for an even split.
    """
    fields = _flat_fields(row) if is_flat(row) else an_object("fields", row.get("fields"))
    prompt, one, other = _parts(fields)
    names = (one.lower(), other.lower())
    answers = _by_question(_flat_answers(row) if is_flat(row) else _answers(row.get("responses")))
    votes = {question: _votes(question, values, names) for question, values in answers.items()}
    asking = [question for question, counted in votes.items() if counted is not None]
    if len(asking) > 1:
        asking = [question for question in asking if _PREFERS.search(question)] or asking
    if len(asking) != 1:
        raise Invalid(
            "responses",
            asking or sorted(answers),
            f"submitted answers to one question that prefers: they name {one} or {other} or rank both "
            "(1, 2, A, B count where the question's name says preference, choice, best or ranking; ratings of "
            "single responses prefer none)",
        )
    counted = votes[asking[0]] or Counter[int]()
    first, second = counted[0], counted[1]
    if first == second:
        raise Invalid(f"responses.{asking[0]}", [first, second], "a majority for one of the two responses")
    chosen, rejected = (one, other) if first > second else (other, one)
    margin = abs(first - second) / (first + second)
    return {
        "prompt": fields[prompt],
        "chosen": fields[chosen],
        "rejected": fields[rejected],
        "weight": margin,
    }


def _parts(fields: Row) -> tuple[str, str, str]:
    """Return the names of the prompt's field and of the two responses', these in order."""
    sides = sorted(name for name in fields if _SIDE.search(name))
    asked = [name for name in fields if name not in sides]
    if len(asked) > 1:
        asked = [name for name in asked if _ASKS.search(name)]
    if len(sides) != 2 or len(asked) != 1:
        raise Invalid(
            "fields", list(fields), "one prompt field and two response fields, recognized by their names"
        )
    return asked[0], sides[0], sides[1]


def _flat_fields(row: Row) -> dict[str, Any]:
    """Return the columns that may be fields: metadata lies beside them."""
    texts = {key: value for key, value in row.items() if isinstance(value, str | list) and "." not in key}
    return {key: value for key, value in texts.items() if _SIDE.search(key) or _ASKS.search(key)}


def _flat_answers(row: Row) -> Iterator[tuple[str, object]]:
    for key, values in row.items():
        if key.endswith(_FLAT) and values is not None:
            values = a_list(key, values)
            status = row.get(f"{key}.status")
            statuses = [None] * len(values) if status is None else a_list(f"{key}.status", status)
            for value, said in zip(values, statuses, strict=False):
                if said in (None, "submitted"):
                    yield key.removesuffix(_FLAT), value


def _answers(responses: object) -> Iterator[tuple[str, object]]:
    if isinstance(responses, list):
        for place, response in enumerate(responses):
            where = f"responses[{place}]"
            response = an_object(where, response)
            if response.get("status") in (None, "submitted") and response.get("values") is not None:
                for question, answer in an_object(f"{where}.values", response["values"]).items():
                    yield question, an_object(f"{where}.values.{question}", answer).get("value")
    else:
        for question, answers in an_object("responses", responses).items():
            for place, answer in enumerate(a_list(f"responses.{question}", answers or [])):
                answer = an_object(f"responses.{question}[{place}]", answer)
                if answer.get("status") in (None, "submitted"):
                    yield question, answer.get("value")


def _by_question(answers: Iterator[tuple[str, object]]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for question, value in answers:
        found.setdefault(question, []).append(value)
    return found


def _votes(question: str, values: list[object], names: tuple[str, str]) -> Counter[int] | None:
    """Count the votes for each of the two responses, None where the question does not prefer."""
    votes = Counter[int]()
    prefers = False
    for value in values:
        side = _named(value, names)
        if side is None and _PREFERS.search(question):
            side = _meant(value, names)
        if side is not None:
            prefers = True
            votes.update([side] if side >= 0 else [])
    return votes if prefers else None


def _named(value: object, names: tuple[str, str]) -> int | None:
    """Return which response a value prefers by its name or a ranking, -1 where it ranks them alike, else None."""
    if isinstance(value, str):
        said = value.strip().lower()
        return names.index(said) if said in names else None
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        ranks = {
            item["value"].lower(): item.get("rank") for item in value if isinstance(item.get("value"), str)
        }
        one, other = ranks.get(names[0]), ranks.get(names[1])
        if isinstance(one, int) and isinstance(other, int):
            return -1 if one == other else int(one > other)
    return None


def _meant(value: object, names: tuple[str, str]) -> int | None:
    """Return which response a number, a letter or a plain list in order may mean, else None."""
    if isinstance(value, list):
        said = [item.lower() for item in value if isinstance(item, str)]
        if set(names) <= set(said):
            return int(said.index(names[0]) > said.index(names[1]))
        return None
    if isinstance(value, bool) or (names[0][-1], names[1][-1]) not in (("1", "2"), ("a", "b")):
        return None
    return {"1": 0, "a": 0, "2": 1, "b": 1}.get(str(value).strip().lower())
