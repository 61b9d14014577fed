"""A conversation as a file: JSON in the form of OpenAI's messages, or Markdown to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from feedback_ui import answer_parts, texts
from feedback_ui.conversation import Talk
from feedback_ui.html import duration, esc
from feedback_ui.listing import pickable
from feedback_ui.turn import Turn, tools_of

FORMS = {"markdown": ("md", "text/markdown"), "json": ("json", "application/json")}
_FENCES, _NO_WORD = re.compile(r"`{3,}"), re.compile(r"[\W_]+")
_MAX_NAME = 40


def build_export() -> Any:
    """Lay out the button that offers both forms; out of sight while there is nothing to export."""
    choices = "".join(
        f'<button type="button" data-id="{form}">{esc(label)}</button>'
        for form, label in texts.CHAT_EXPORT_FORMS
    )
    html = f'<details class="tt-export"><summary>{esc(texts.CHAT_EXPORT)}</summary><div>{choices}</div></details>'
    return pickable(html, visible=False, elem_id="chat-export")


def exported(talk: Talk, form: str) -> dict[str, str]:
    """Return the file of a conversation: its `name`, `type` and `text`. An unfinished answer is left out."""
    talk = talk.settled()
    ending, kind = FORMS[form]
    text = as_json(talk) if form == "json" else as_markdown(talk)
    return {"name": f"{_name(talk)}.{ending}", "type": kind, "text": text}


def as_json(talk: Talk) -> str:
    """Return `{"messages": [...], "tools": [...]}`, as OpenAI's chat completions and fine-tuning files have them."""
    messages = [turn.message(with_thinking=True) for turn in talk.turns]
    body: dict[str, Any] = {"messages": messages}
    if messages and messages[0].pop("tools", None) and (tools := tools_of(talk.turns[0].carried)):
        body["tools"] = tools
    return json.dumps(body, ensure_ascii=False, indent=2) + "\n"


def as_markdown(talk: Talk) -> str:
    """Return the conversation with a heading per message; texts are as they were written."""
    return "\n\n".join(part for turn in talk.turns for part in _parts(turn)) + "\n"


def _parts(turn: Turn) -> Iterator[str]:
    by = f" ({turn.release})" if turn.release else ""
    yield f"## {texts.CHAT_ROLES.get(turn.role, turn.role)}{by}"
    if turn.thinking.strip():
        took = f" {texts.CHAT_THOUGHT_FOR.format(duration(turn.thought_s))}" if turn.thought_s else ""
        quoted = "\n".join(f"> {line}".rstrip() for line in turn.thinking.strip().splitlines())
        yield f"> *{texts.CHAT_THOUGHT}{took}*\n>\n{quoted}"
    if turn.role == "tool":
        yield _fenced(answer_parts.pretty(turn.content))
    elif turn.content.strip():
        yield turn.content
    for call in turn.calls:
        function: Mapping[str, Any] = call.get("function") or {}
        arguments = answer_parts.pretty(str(function.get("arguments") or ""))
        yield f"{texts.CHAT_CALL}: `{function.get('name', '')}`\n\n{_fenced(arguments, 'json')}"


def _fenced(text: str, language: str = "") -> str:
    """Return a block of code whose fence is longer than any in it."""
    fence = "`" * (max((len(found) for found in _FENCES.findall(text)), default=2) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _name(talk: Talk) -> str:
    """Return a file's name of the first words of the person, in letters, digits and hyphens."""
    first = next((turn.content for turn in talk.turns if turn.role == "user"), "")
    return _NO_WORD.sub("-", first.lower())[:_MAX_NAME].strip("-") or "conversation"
