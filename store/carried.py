"""What a message carries beside its role and text: tool calls, the call that a tool answers, a name, reasoning, tools.

Kept as one JSON object with sorted keys, so that equal messages are equal texts; "" for a plain message, whose hash and
columns stay as they always were. Tool calls are in OpenAI's form, their arguments as JSON text. The definitions of the
tools that a conversation may use are carried by its first message, as the JSON text of what a chat template reads: the
order of keys decides the tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from store import import_notes, tool_definitions
from store.errors import Invalid

CARRIED = ("tool_calls", "tool_call_id", "name", "reasoning_content", "tools")
_REASONING = ("reasoning_content", "reasoning", "thinking")  # vLLM and DeepSeek, OpenRouter, TRL
_PLAIN = {"role", "content"}


def read(message: Mapping[str, Any], where: str) -> str:
    """Return what a message carries, as canonical JSON. Raises `Invalid` naming the place."""
    if message.keys() <= _PLAIN:
        return ""
    found: dict[str, Any] = {}
    if calls := _calls(message, where):
        found["tool_calls"] = calls
        import_notes.rule("tool_calls_kept")
    for key in ("tool_call_id", "name"):
        if (value := message.get(key)) is not None and value != "":
            found[key] = _text(value, f"{where}.{key}")
    if tools := tool_definitions.read(message.get("tools"), f"{where}.tools"):
        found["tools"] = tools
    for key in _REASONING:
        if (value := message.get(key)) is not None and value != "":
            found["reasoning_content"] = _text(value, f"{where}.{key}")
            break
    used = _PLAIN | set(CARRIED) | set(_REASONING) | {"function_call"}
    for key, value in message.items():
        if key not in used and value not in (None, "", [], {}):
            import_notes.unused(f"{where.partition('[')[0]}[].{key}")
    return dump(found)


def of_answer(message: Mapping[str, Any]) -> str:
    """Return what an engine's answer carries: its tool calls and its reasoning. Raises `Invalid`."""
    return read({key: message.get(key) for key in ("tool_calls", *_REASONING)}, "answer")


def dump(carried: Mapping[str, Any]) -> str:
    """Return what a message carries as canonical JSON, "" for nothing."""
    if not carried:
        return ""
    return json.dumps(carried, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def load(carried: str) -> dict[str, Any]:
    """Read what `dump` wrote."""
    read: dict[str, Any] = json.loads(carried) if carried else {}
    return read


def identity(carried: str) -> str:
    """Return what tells a message from others of its text: all but reasoning, which clients leave out of later requests."""
    if "reasoning_content" not in carried:
        return carried
    return dump({key: value for key, value in load(carried).items() if key != "reasoning_content"})


def changed(carried: str, change: Callable[[Any], Any]) -> str:
    """Return what a message carries after `change` of its JSON value, definitions of tools read from their text."""
    value = load(carried)
    if "tools" in value:
        made = change(value | {"tools": json.loads(value["tools"])})
        return dump(made | {"tools": json.dumps(made["tools"], ensure_ascii=False, separators=(",", ":"))})
    return dump(change(value))


def pack(parts: Mapping[str, Sequence[str]]) -> str | None:
    """Return what the messages of a row carry, by part and place, as JSON; None where all are plain."""
    packed = {
        name: {str(place): json.loads(carried) for place, carried in enumerate(part) if carried}
        for name, part in parts.items()
    }
    packed = {name: places for name, places in packed.items() if places}
    return dump(packed) or None


def unpack(packed: str | None, part: str) -> dict[int, str]:
    """Read what the messages of a part carry, by place, from what `pack` wrote."""
    places = json.loads(packed).get(part, {}) if packed else {}
    return {int(place): dump(carried) for place, carried in places.items()}


def merged(messages: Sequence[Mapping[str, Any]], packed: str | None, part: str) -> list[dict[str, Any]]:
    """Return messages of a row in JSON with what they carry."""
    carried = unpack(packed, part)
    return [{**message, **load(carried.get(place, ""))} for place, message in enumerate(messages)]


def _calls(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    call = message.get("function_call")
    field = f"{where}.tool_calls"
    if not calls and call:  # OpenAI's older form of one call
        calls, field = [{"function": call}], f"{where}.function_call"
    if isinstance(calls, str):
        with suppress(ValueError):
            calls = json.loads(calls)
    if not calls:
        return []
    if not isinstance(calls, list):
        raise Invalid(field, calls, "a list of calls")
    return [_call(item, field) for item in calls]


def _call(item: object, where: str) -> dict[str, Any]:
    accepted = 'a call: {"type": "function", "function": {"name": "...", "arguments": "{...}"}}'
    if not isinstance(item, Mapping):
        raise Invalid(where, item, accepted)
    function = item.get("function", item if "name" in item else None)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Invalid(where, item, accepted)
    arguments = function.get("arguments")
    if not isinstance(arguments, str | Mapping | None):
        raise Invalid(f"{where}.arguments", arguments, "an object, or its JSON text")
    call: dict[str, Any] = {"type": "function", "function": {"name": function["name"]}}
    if isinstance(item.get("id"), str):
        call["id"] = item["id"]
    try:
        if arguments is not None:
            whole = isinstance(arguments, str)
            call["function"]["arguments"] = arguments if whole else json.dumps(arguments, ensure_ascii=False)
        json.dumps(call, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        raise Invalid(where, item, "JSON values, in text that is valid Unicode") from None
    return call


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Invalid(where, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(where, value, "text that is valid Unicode (in UTF-8; no lone surrogates)") from None
    return value
