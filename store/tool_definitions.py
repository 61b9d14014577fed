"""Definitions of the tools that a conversation may use, as one text: what a chat template reads of them, in its order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from store.errors import Invalid

_ACCEPTED = 'a list of tools: [{"type": "function", "function": {"name": "...", "parameters": {...}}}], or its JSON text'


def read(value: object, where: str) -> str:
    """Return definitions (a list, or its JSON text) as JSON text, "" for none. Raises `Invalid` naming the place.

    Each has the keys and the order that vLLM gives to chat templates, so that equal tools are equal tokens. A bare function
    (OpenAI's older `functions`) is taken for a tool.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise Invalid(where, value, _ACCEPTED) from None
    if value is None or value == "" or value == []:
        return ""
    if not isinstance(value, list):
        raise Invalid(where, value, _ACCEPTED)
    try:
        tools = [_tool(item, f"{where}[{i}]") for i, item in enumerate(value)]
        text = json.dumps(tools, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError):
        raise Invalid(where, value, "JSON values, in text that is valid Unicode") from None
    return text


def _tool(item: object, where: str) -> dict[str, Any]:
    if not isinstance(item, Mapping) or item.get("type", "function") != "function":
        raise Invalid(where, item, 'a tool of type "function"')
    function = item.get("function", item if "name" in item else None)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise Invalid(f"{where}.function.name", item, "the name of a function")
    parameters = function.get("parameters")
    if not isinstance(parameters, Mapping | None):
        raise Invalid(f"{where}.function.parameters", parameters, "a JSON schema: an object")
    description = function.get("description")
    if not isinstance(description, str | None):
        raise Invalid(f"{where}.function.description", description, "text")
    made = {"name": function["name"], "description": description, "parameters": parameters}
    if isinstance(function.get("strict"), bool):
        made["strict"] = function["strict"]
    return {"type": "function", "function": made}
