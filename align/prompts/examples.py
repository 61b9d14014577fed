"""Examples for a system prompt, chosen among answers that people preferred or liked: good ones that differ.

By rules, the answers that follow most of them come first. Among those, greedy k-centre: each next example is the one whose
request is least like those that were chosen before (Jaccard similarity of words).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.evaluation.rules import share_followed, words
from align.evaluation.scoring import reference_of
from align.evaluation.win_rate import Prefer
from align.messages import was_cut
from align.prompts.candidates import Example
from common.chat_messages import SYSTEM_ROLES

LONGEST = 600
"""Characters of a request and its answer together; longer ones cost more than they show."""

POOL = 4
"""Among how many good answers per wanted example the choice is made."""


def choose_examples(
    rows: Sequence[Mapping[str, Any]],
    count: int,
    rules: Sequence[Mapping[str, Any]] = (),
    prefer: Prefer | None = None,
) -> list[Example]:
    """Return up to `count` examples of snapshot rows, the most typical request first."""
    found: dict[str, Example] = {}
    for row in rows:
        example = example_of(row)
        if example is not None:
            found.setdefault(example.question.lower(), example)
    pool = sorted(found.values(), key=lambda example: _badness(example, rules, prefer))[
        : max(count, 1) * POOL
    ]
    return _k_centre(pool, count)


def example_of(row: Mapping[str, Any]) -> Example | None:
    """Return the row's request and its good answer; None for a longer conversation, a dislike, or an answer that was cut."""
    prompt = [turn for turn in row["prompt"] if turn.get("role") not in SYSTEM_ROLES]
    part = "chosen" if "chosen" in row else "completion"
    answer = row.get(part) or []
    if len(prompt) != 1 or len(answer) != 1 or row.get("label") is False:
        return None
    question, text = (str(turn.get("content") or "").strip() for turn in (prompt[0], answer[0]))
    if not question or not text or was_cut(row.get(f"{part}_finish_reason")):
        return None
    return Example(question, text, reference_of(row)) if len(question) + len(text) <= LONGEST else None


def _badness(
    example: Example, rules: Sequence[Mapping[str, Any]], prefer: Prefer | None
) -> tuple[float, float]:
    followed = share_followed(example.answer, rules) if rules else 0.0
    length = len(words(example.answer))
    # without a preference the cheapest: an example is paid for with every request
    return -followed, -length if prefer == "longer" else length


def _k_centre(pool: Sequence[Example], count: int) -> list[Example]:
    bags = [frozenset(word.lower() for word in words(example.question)) for example in pool]
    if not pool or count < 1:
        return []
    likeness = [[_jaccard(a, b) for b in bags] for a in bags]
    chosen = [max(range(len(pool)), key=lambda i: sum(likeness[i]))]
    while len(chosen) < min(count, len(pool)):
        left = [i for i in range(len(pool)) if i not in chosen]
        chosen.append(min(left, key=lambda i: max(likeness[i][j] for j in chosen)))
    return [pool[i] for i in chosen]


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0
