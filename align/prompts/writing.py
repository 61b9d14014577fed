"""System prompts that a model writes from requests with their preferred and rejected answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from align.evaluation.answering.chat_api import ChatApi, content_of
from align.evaluation.rules import words

ROWS = 4
"""Rated answers that are shown per request for a prompt."""
MAX_TOKENS = 120
LONGEST_SHOWN = 300
"""Characters of a request or answer that is shown."""

_ASK = (
    "Below are requests to an assistant, each with an answer that people preferred and one that they rejected. "
    "Write one instruction for the assistant, in at most two sentences, so that it answers like the preferred answers. "
    "Reply with the instruction alone.\n\n{rows}\n\nInstruction:"
)
_ASK_FOR_RULES = (
    "An assistant shall answer every request so that its answers meet these conditions: {rules}. "
    "Write one instruction for the assistant, in at most two sentences, so that it does. "
    "Reply with the instruction alone.\n\nInstruction:"
)


async def write_prompts(
    api: ChatApi, model: str, rows: Sequence[Mapping[str, Any]], conditions: str, count: int
) -> list[str]:
    """Have `model` write up to `count` system prompts, each from other rated answers, else from the rules in words."""
    pairs = [row for row in rows if row.get("chosen") and row.get("rejected")]
    found = []
    for n in range(count):
        shown = [pairs[(n * ROWS + i) % len(pairs)] for i in range(min(ROWS, len(pairs)))]
        if shown and (n % 2 == 0 or not conditions):
            text = _ASK.replace("{rows}", "\n\n".join(_show(row) for row in shown))
        elif conditions:
            text = _ASK_FOR_RULES.replace("{rules}", conditions)
        else:
            break
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": MAX_TOKENS,
            "temperature": 1.0,
            "seed": n + 1,
        }
        answer, _ = await api.chat(body)
        found.append(instruction_in(content_of(answer)))
    return [text for text in dict.fromkeys(found) if text]


def instruction_in(reply: str) -> str:
    """Return the instruction of a model's reply: its first paragraph, without label, list mark and quotes."""
    first = next((part for part in re.split(r"\n\s*\n", reply.strip()) if part.strip()), "")
    plain = re.sub(
        r"^(?:[-*>#\s]|\*\*|\d+[.)])*(?:(?:system )?(?:instruction|prompt)\s*:)?", "", first, flags=re.I
    )
    plain = plain.strip().strip("\"'`*\u201c\u201d").strip()
    return plain if len(words(plain)) >= 2 else ""


def _show(row: Mapping[str, Any]) -> str:
    request = str(row["prompt"][-1].get("content") or "")
    chosen, rejected = (str(row[part][-1].get("content") or "") for part in ("chosen", "rejected"))
    return "\n".join(
        f"{label}: {text[:LONGEST_SHOWN]}"
        for label, text in (("Request", request), ("Preferred", chosen), ("Rejected", rejected))
    )
