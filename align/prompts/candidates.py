"""Candidates of a search: system prompts, and examples of answers that go into them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.chat_messages import context_of

BUILT_IN = Path(__file__).with_name("built_in.toml")
LONGEST = 4000
"""Characters of a system prompt without its examples."""

NONE = "none"
"""Name of the candidate without system prompt and examples, which the others are compared with."""

_INTRODUCTION = "Examples of good answers:"


@dataclass(frozen=True)
class Example:
    """A request with a good answer to it; `reference` is the store's id of the row that they are from."""

    question: str
    answer: str
    reference: str | None = None

    @property
    def text(self) -> str:
        """The example as it stands in a system prompt."""
        return f"\n\nUser: {self.question}\nAssistant: {self.answer}"


@dataclass(frozen=True)
class Candidate:
    """A system prompt: an instruction (empty for none), and examples.

    `source` is who wrote the instruction: built-in, operator or model.
    """

    name: str
    instruction: str = ""
    examples: tuple[Example, ...] = ()
    source: str = "built-in"

    @property
    def system_prompt(self) -> str | None:
        """The whole text, None where there is nothing in it."""
        examples = _INTRODUCTION + "".join(example.text for example in self.examples) if self.examples else ""
        return "\n\n".join(part for part in (self.instruction, examples) if part) or None

    @property
    def messages(self) -> list[dict[str, str]]:
        """What goes before a conversation."""
        return context_of(self.system_prompt)

    def to_json(self) -> dict[str, Any]:
        """Return its name, source, instruction, and the references of its examples, whose texts are left out."""
        return {
            "name": self.name,
            "source": self.source,
            "instruction": self.instruction,
            "shots": len(self.examples),
            "examples": [example.reference for example in self.examples],
        }


def built_in() -> list[str]:
    """Return the system prompts that come with the platform."""
    found: list[str] = tomllib.loads(BUILT_IN.read_text(encoding="utf-8"))["prompts"]
    return found


def instructions(
    own: Iterable[str] = (), written: Iterable[str] = (), with_built_in: bool = True
) -> list[Candidate]:
    """Return candidates without examples: the operator's first, then built-in ones, then those that a model wrote.

    A text that differs from an earlier one in case and spaces only is left out, as is one without a word.
    """
    found: dict[str, Candidate] = {}
    sources = (("operator", own), ("built-in", built_in() if with_built_in else ()), ("model", written))
    for source, texts in sources:
        count = 0
        for text in texts:
            plain = text.strip()
            key = " ".join(plain.lower().split())
            if not key or key in found or len(plain) > LONGEST:
                continue
            count += 1
            found[key] = Candidate(f"{source} {count}", plain, source=source)
    return list(found.values())


def with_shots(base: Candidate, examples: Sequence[Example], shots: int) -> Candidate | None:
    """Return `base` with the first `shots` examples, None where there are fewer."""
    if len(examples) < shots:
        return None
    name = f"{shots} examples" if base.name == NONE else f"{base.name} + {shots} examples"
    return Candidate(name, base.instruction, tuple(examples[:shots]), base.source)
