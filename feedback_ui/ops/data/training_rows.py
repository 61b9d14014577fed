"""Rows of training data, each a line that unfolds into the whole row: prompt, responses, tool calls and thinking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feedback_ui import answer_parts, dialogue, texts
from feedback_ui.html import ago, badge, esc, first_line, number, one_line
from feedback_ui.turn import SYSTEM_ROLES, read_turn

Messages = Sequence[Mapping[str, Any]]


def pair(row: Mapping[str, Any]) -> str:
    """Render a preference pair."""
    return _row(
        row,
        [
            (texts.DATA_CHOSEN, "good", _messages(row, "chosen")),
            (texts.DATA_REJECTED, "bad", _messages(row, "rejected")),
        ],
    )


def demonstration(row: Mapping[str, Any]) -> str:
    """Render a demonstration."""
    return _row(row, [(texts.DATA_COMPLETION, "good", _messages(row, "completion"))])


def whole(
    row: Mapping[str, Any], responses: Sequence[tuple[str, str, Messages]], facts: Sequence[str], below: str
) -> str:
    """Render any row: `responses` are label, tone and messages; `facts` are badges, `below` HTML under the row."""
    return _row(row, responses, facts, below)


def listed(rows: Iterable[str], label: str) -> str:
    """Render rows as a list."""
    items = "".join(f"<li>{row}</li>" for row in rows)
    return f'<ul class="tt-rows" aria-label="{esc(label)}">{items}</ul>'


def _messages(row: Mapping[str, Any], part: str) -> Messages:
    """Return a response as messages: whole where the platform has it so, else its text."""
    whole = row.get(f"{part}_messages")
    return whole or [{"role": "assistant", "content": str(row.get(part) or "")}]


def _row(
    row: Mapping[str, Any],
    responses: Sequence[tuple[str, str, Messages]],
    more: Sequence[str] = (),
    below: str = "",
) -> str:
    key, prompt = str(row.get("id", "")), list(row.get("prompt") or ())
    everything = [*prompt, *(message for _, _, messages in responses for message in messages)]
    lines = "".join(
        f'<span class="tt-row-said"><b class="tt-mark-{tone}">{esc(label)}</b> {_said(messages)}</span>'
        for label, tone, messages in responses
    )
    facts = [badge(label) for label in _carried(everything)]
    facts += more
    facts += [badge(row.get("source") or "–"), *_weight(row), ago(row.get("created_at"))]
    summary = f"<b>{_asked(prompt)}</b>{lines}<span class='tt-row-facts'>{''.join(facts)}</span>"
    columns = "".join(
        f'<section class="tt-response"><h3>{esc(label)}</h3>'
        f"{dialogue.messages(messages, key=f'{key} {label}')}</section>"
        for label, _, messages in responses
    )
    asked = f"<div><h3>{esc(texts.DATA_PROMPT)}</h3>{dialogue.messages(prompt, key=f'{key} prompt')}</div>"
    return (
        f'<details class="tt-row" data-key="row {esc(key)}"><summary>{summary}</summary>'
        f'<div class="tt-row-body">{asked}<div class="tt-row-columns">{columns}</div>'
        f'<p class="tt-hint"><code>{esc(key)}</code>{below}</p></div></details>'
    )


def _asked(prompt: Messages) -> str:
    """Return the last thing that a person said, or else the last message."""
    said = [message for message in prompt if message.get("role") == "user"] or list(prompt)
    return first_line(read_turn(said[-1]).content, 140) if said else "–"


def _said(messages: Messages) -> str:
    """Return a response on one line: its last text, or the last call where it ends with one."""
    turns = [read_turn(message) for message in messages]
    last = turns[-1]
    if last.content.strip():
        return first_line(last.content, 160)
    return (
        "; ".join(one_line(line) for line in answer_parts.copied((call, None) for call in last.calls)) or "–"
    )


def _carried(messages: Messages) -> list[str]:
    """Return what a row has beside texts, in words."""
    turns = [read_turn(message) for message in messages]
    calls = sum(len(turn.calls) for turn in turns)
    found = {
        texts.CHAT_SYSTEM: any(turn.role in SYSTEM_ROLES for turn in turns),
        (texts.DATA_CALLS if calls != 1 else texts.DATA_CALL).format(calls): bool(calls),
        texts.DATA_THINKING: any(turn.thinking for turn in turns),
    }
    return [label for label, there in found.items() if there]


def _weight(row: Mapping[str, Any]) -> list[str]:
    weight = row.get("weight")
    return [] if weight in (None, 1, 1.0) else [badge(f"{texts.DATA_WEIGHT} {number(weight, 2)}")]
