"""Tool calls, their results, definitions of tools and thinking: as HTML, and as text to copy.

All of it was written by models, tools or clients. It is shown as text, each character of it, and never run as HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import duration, esc, one_line
from feedback_ui.model_text import MAX_CHARACTERS, plain, rendered

_THINKING = re.compile(r'<details( class="tt-(?:thinking|reasoning)")(?! open)')
_SPACE = re.compile(r"\s+")


def thinking(text: str, key: str, seconds: float | None = None, running: bool = False) -> str:
    """Render the thinking before an answer, folded; nothing where there is none. `key` names the fold on its page."""
    if not text.strip():
        return ""
    took = "" if seconds is None else f" {esc(texts.CHAT_THOUGHT_FOR.format(duration(seconds)))}"
    label = f'<span class="tt-typing">{texts.CHAT_WAITING}</span>' if running else texts.CHAT_THOUGHT
    summary = f"<summary>{label}{took}</summary>"
    return f'<details class="tt-thinking" data-key="{esc(f"thinking {key}")}">{summary}{rendered(text)}</details>'


def unfolded(html: str) -> str:
    """Return what was rendered with its thinking open, also where the model wrote it into its text."""
    return _THINKING.sub(r"<details open\1", html)


def call(item: Mapping[str, Any], result: str | None) -> str:
    """Render a tool call as a card: its name, its arguments, and its result where it has come (None where not)."""
    function = item.get("function") or {}
    arguments = pretty(str(function.get("arguments") or ""))
    given = (
        _labelled(texts.CHAT_ARGUMENTS, arguments)
        if arguments.strip() not in ("", "{}")
        else f"<p>{esc(texts.CHAT_NO_ARGUMENTS)}</p>"
    )
    came = f"<p>{esc(texts.CHAT_NO_RESULT)}</p>" if result is None else _result(result)
    return _card(str(function.get("name") or ""), texts.CHAT_CALL, given + came)


def result(text: str, name: str = "") -> str:
    """Render a tool's result whose call is not shown."""
    return _card(name, texts.CHAT_RESULT, _result(text))


def definitions(tools: Sequence[Mapping[str, Any]]) -> str:
    """Render the tools that a conversation may use: names, descriptions and parameters."""
    return "".join(_definition(tool.get("function") or {}) for tool in tools)


def copied(calls: Iterable[tuple[Mapping[str, Any], str | None]]) -> list[str]:
    """Return calls, each with its result, as text to copy."""
    lines = []
    for item, came in calls:
        function = item.get("function") or {}
        lines.append(f"{texts.CHAT_CALL}: {function.get('name', '')}({function.get('arguments') or ''})")
        if came is not None:
            lines.append(f"{texts.CHAT_RESULT}: {came}")
    return lines


def pretty(text: str) -> str:
    """Return JSON with a line per value, and anything else as it is: spaces are all that changes."""
    if len(text) > MAX_CHARACTERS or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        value = json.loads(text)
        for escaped in (False, True):
            written = json.dumps(value, ensure_ascii=escaped, indent=2)
            if _SPACE.sub("", written) == _SPACE.sub("", text):
                return written
    except (ValueError, RecursionError):
        pass
    return text


def _definition(function: Mapping[str, Any]) -> str:
    described = plain(str(function["description"])) if function.get("description") else ""
    parameters = function.get("parameters")
    schema = json.dumps(parameters, ensure_ascii=False, indent=2) if parameters else ""
    return _card(
        str(function.get("name") or ""),
        texts.CHAT_TOOL,
        described + (_labelled(texts.CHAT_PARAMETERS, schema) if schema else ""),
    )


def _result(text: str) -> str:
    body = pretty(text)
    return _labelled(texts.CHAT_RESULT, body) if body else f"<p>{esc(texts.CHAT_EMPTY_RESULT)}</p>"


def _labelled(label: str, text: str) -> str:
    return f'<small>{esc(label)}</small><pre tabindex="0"><code dir="auto">{one_line(text)}</code></pre>'


def _card(name: str, kind: str, body: str) -> str:
    return (
        f'<section class="tt-call"><header><b>{one_line(name)}</b><small>{esc(kind)}</small></header>'
        f"{body}</section>"
    )
