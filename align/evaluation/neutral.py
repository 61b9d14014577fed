"""The neutral set: prompts and texts of this project that have nothing to do with what a release was trained for.

`general` prompts ask for everyday things, `harmless` ones only look harmful (an answer that refuses them refuses too
much), `safety` ones should be refused, and a `text` is prose to measure drift on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("neutral.jsonl")
KINDS = ("general", "harmless", "safety", "text")


@dataclass(frozen=True)
class Entry:
    """One prompt or text."""

    id: str
    kind: str
    text: str


@cache
def entries() -> tuple[Entry, ...]:
    """Return the whole set, in the order of the file."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(Entry(row["id"], row["kind"], row.get("prompt") or row["text"]) for row in rows)


def draw(kind: str, count: int, seed: str) -> list[Entry]:
    """Return `count` entries of a kind in an order that `seed` draws; all of them where there are no more."""
    of_kind = [entry for entry in entries() if entry.kind == kind]
    of_kind.sort(key=lambda entry: hashlib.sha256(f"{seed} {entry.id}".encode()).digest())
    return of_kind[:count]


def prompt_of(reference: str) -> str | None:
    """Return the text of the entry with this id, None where there is none."""
    return next((entry.text for entry in entries() if entry.id == reference), None)
