"""How responses differ, word by word, and responses cut to one length, as HTML that shows every character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from feedback_ui import texts
from feedback_ui.html import clean, esc, one_line
from feedback_ui.model_text import wrapped

MAX_WORDS = 4_000
"""Words of one text beyond which no differences are looked for: it would take seconds."""

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def marked(text: str, other: str) -> str:
    """Return a text with those words marked that `other` does not have in their place."""
    mine, theirs = words(text), words(other)
    if max(len(mine), len(theirs)) > MAX_WORDS:
        return (
            f'<p class="tt-subdued">{esc(texts.RANK_TOO_LONG)}</p>{wrapped("tt-plain", one_line(text), text)}'
        )
    matcher = SequenceMatcher(None, theirs, mine, autojunk=False)
    html = "".join(
        one_line(part) if kind == "equal" else f'<mark class="tt-differs">{one_line(part)}</mark>'
        for kind, _, _, start, end in matcher.get_opcodes()
        if (part := "".join(mine[start:end]))
    )
    return wrapped("tt-plain", html, text)


def changed(before: str, after: str) -> str:
    """Return what became of a text: what was taken out is struck through, what came in is underlined."""
    old, new = words(before), words(after)
    if max(len(old), len(new)) > MAX_WORDS:
        return f'<p class="tt-subdued">{esc(texts.RANK_TOO_LONG)}</p>'
    parts = []
    for kind, i, j, k, n in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        out, came = one_line("".join(old[i:j])), one_line("".join(new[k:n]))
        if kind == "equal":
            parts.append(came)
            continue
        parts.append(f"<del>{out}</del>" if out else "")
        parts.append(f"<ins>{came}</ins>" if came else "")
    return f'<div class="tt-text tt-plain tt-changes" dir="auto">{"".join(parts)}</div>'


def closest(text: str, others: Sequence[str]) -> str:
    """Return which of some texts a text shares most words with: what it was probably written from."""
    mine = set(words(text))
    return max(others, key=lambda other: len(mine & set(words(other))) / (len(mine | set(words(other))) or 1))


def same_length(text: str, length: int) -> str:
    """Return the first `length` words of a text, and how many words follow."""
    found = [match.end() for match in re.finditer(r"\S+", clean(text))]
    if len(found) <= length:
        return wrapped("tt-plain", one_line(text), text)
    kept = one_line(clean(text)[: found[length - 1]] if length else "")
    more = f'<span class="tt-subdued"> … {esc(texts.RANK_CUT.format(words=len(found) - length))}</span>'
    return wrapped("tt-plain", kept + more, text)


def shortest(given: Sequence[str]) -> int:
    """Return how many words the shortest of some texts has."""
    return min(len(text.split()) for text in given)


def words(text: str) -> list[str]:
    """Return the words, spaces and signs of a text; joined again they are the text."""
    return _WORDS.findall(clean(text))
