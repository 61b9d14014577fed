"""Definitions of tools of a row: a column beside its messages in files, kept with the first message in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from store import import_notes, tool_definitions
from store.errors import Invalid
from store.message import conversation
from store.transfer.columns import TOOLS, filled, says_nothing

Row = Mapping[str, Any]


def attached(part: Row, row: Row) -> Row:
    """Return what a row became with the row's definitions of tools at the first message of its conversations.

    `part` has those of `row` unless the reader took them from elsewhere. Raises `Invalid` naming the column.
    """
    columns = ((name, found.get(name)) for found in (part, row) for name in TOOLS)
    given = next((column for column in columns if filled(column[1]) and not says_nothing(column[1])), None)
    if given is None or not (tools := tool_definitions.read(given[1], given[0])):
        return part
    import_notes.rule("tools_kept")
    asked = next((name for name in ("messages", "prompt") if filled(part.get(name))), None)
    names = (
        [asked]
        if asked
        else [name for name in ("chosen", "rejected", "completion") if filled(part.get(name))]
    )
    return {**part, **{name: _with(tools, part[name], name) for name in names}}


def _with(tools: str, value: object, name: str) -> list[dict[str, Any]]:
    first, *others = (message.to_json() for message in conversation(value, name))
    if first.get("tools", tools) != tools:
        raise Invalid(
            "tools", first["tools"], "one list of tools: that of the row, or that of its first message"
        )
    return [{**first, "tools": tools}, *others]


def apart(messages: list[dict[str, Any]]) -> str | None:
    """Take the definitions of tools from the first of `messages`, changing it; None where there are none."""
    return messages[0].pop("tools", None) if messages else None


def as_list(tools: str) -> list[dict[str, Any]]:
    """Return definitions of tools as OpenAI's formats have them: without keys that say nothing."""
    found: list[dict[str, Any]] = json.loads(tools)
    return [
        tool | {"function": {key: value for key, value in tool["function"].items() if value is not None}}
        for tool in found
    ]
