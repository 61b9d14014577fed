"""Messages that lie in text: lists as JSON or as Python's repr, transcripts of other formats, and reasoning in an answer."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Mapping
from typing import Any

from store import import_notes
from store.errors import Invalid

ROLES = {
    "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "bot": "assistant",
    "system": "system", "developer": "developer", "tool": "tool", "observation": "tool", "function": "tool",
    "ipython": "tool", "tool_response": "tool", "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip
"""Roles by the names that formats give them, in lower case."""
CALLS = ("function_call", "tool_call")
"""Names under which a message is the call of a tool, as JSON text."""

MAX_LITERAL = 4 * 2**20  # characters of Python's repr that are read: its parser takes some hundred bytes each
_STARTS = re.compile(
    r"\s*(\[\s*)?\{\s*['\"](role|content|from|value|name|tool_calls|tool_call_id|weight|loss|id)['\"]"
)
_STRING = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\""""
# numpy prints a list of objects without commas between them.
_NUMPY = re.compile(rf"({_STRING})|(\}})(\s+)(?=\{{)", re.DOTALL)
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL)
_STEERLM = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
_RENDERED = re.compile(
    r"\s*(<s>|<\|begin_of_text\|>|<bos>)?\s*(\[INST\]|<\|start_header_id\|>|<start_of_turn>|<\|user\|>)"
)
_DETAILS = re.compile(r'\A\s*<details\s+type="reasoning"[^>]*>(.*?)</details>\s*', re.DOTALL)
_ANY_DETAILS = re.compile(r'<details\s+type="(tool_calls|code_interpreter)"')
_SUMMARY = re.compile(r"\A\s*<summary>.*?</summary>\s*", re.DOTALL)
_THINK = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)


def is_message(value: object) -> bool:
    """Tell whether a value is a message, in the form of OpenAI or of ShareGPT."""
    if not isinstance(value, Mapping):
        return False
    if isinstance(value.get("role"), str):
        return "content" in value or "tool_calls" in value
    return isinstance(value.get("from"), str) and "value" in value


def as_openai(message: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return a message of ShareGPT's form in OpenAI's, and any other as it is. Raises `Invalid` for an unknown role."""
    if "role" in message or "from" not in message:
        return message
    who = message["from"]
    role = ROLES.get(who.lower()) if isinstance(who, str) else None
    if role is None:
        raise Invalid(f"{where}.from", who, sorted(ROLES))
    rest = {key: value for key, value in message.items() if key not in ("from", "value")}
    said = message.get("value")
    if who.lower() not in CALLS:
        return {**rest, "role": role, "content": said}
    calls = read_literal(said) if isinstance(said, str) else said
    return {
        **rest,
        "role": role,
        "content": "",
        "tool_calls": [calls] if isinstance(calls, Mapping) else calls,
    }


def within(words: str, text: str) -> bool:
    """Tell whether text holds words, not as a part of longer ones."""
    start = text.find(words)
    while start >= 0:
        end = start + len(words)
        before, after = text[start - 1 : start] if start else "", text[end : end + 1]
        if not (before.isalnum() and words[:1].isalnum()) and not (after.isalnum() and words[-1:].isalnum()):
            return True
        start = text.find(words, start + 1)
    return False


def looks_like_messages(text: str) -> bool:
    """Tell whether text may hold messages, from how it begins."""
    return _STARTS.match(text) is not None


def read_messages(text: str) -> list[Any] | None:
    """Return the messages that a text holds, None where it holds none: a list, or a single message."""
    if not looks_like_messages(text):
        return None
    value = read_literal(text)
    found = [value] if isinstance(value, Mapping) else value
    if isinstance(found, list) and found and all(map(is_message, found)):
        return found
    return None


def read_literal(text: str) -> object:
    """Return the value that JSON text or Python's repr writes, None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > MAX_LITERAL:
        return None
    for written in (text, _NUMPY.sub(lambda m: m[1] or "}, ", text)):
        try:
            return ast.literal_eval(written.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return None


def transcript(text: str, field: str) -> list[dict[str, Any]] | None:
    """Return the turns of a transcript, None where text is none.

    Read are Anthropic's (Human: ... Assistant: ...), ChatML and SteerLM's. Raises `Invalid` naming `field` for text that
    another chat template rendered.
    """
    if text.startswith(("\n\nHuman:", "\n\nAssistant:")) or (
        text.startswith("Human:") and "\n\nAssistant:" in text
    ):
        return _anthropic(text)
    if text.lstrip().startswith("<|im_start|>"):
        return [
            {"role": ROLES.get(role.lower(), role), "content": said.strip()}
            for role, said in _CHATML.findall(text)
        ]
    if "<extra_id_1>" in text:
        return _steerlm(text)
    if _RENDERED.match(text):
        raise Invalid(field, text, "the messages themselves: this text was rendered with a chat template")
    return None


def _anthropic(text: str) -> list[dict[str, Any]]:
    parts = _TURN.split(text)
    return [
        {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _steerlm(text: str) -> list[dict[str, Any]] | None:
    first, *parts = _STEERLM.split(text)
    if not parts:
        return None
    turns = [{"role": "user", "content": first.strip()}] if first.strip() else []
    return turns + [
        {"role": ROLES[who.lower()], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def without_reasoning(text: str, field: str, think: bool = False) -> tuple[str, str]:
    """Return an answer and the reasoning before it, "" where there is none.

    Open WebUI keeps reasoning as HTML (`<details type="reasoning">`); `think` also takes `<think>`. Raises `Invalid`
    naming `field` for an answer that holds tool calls as HTML, which say too little to be kept.
    """
    found: list[str] = []
    while match := _DETAILS.match(text) or (_THINK.match(text) if think else None):
        said = _SUMMARY.sub("", match[1])
        if match.re is _DETAILS:
            said = "\n".join(
                line.removeprefix("> ").removeprefix(">") for line in html.unescape(said).splitlines()
            )
        found.append(said.strip())
        text = text[match.end() :]
    if _ANY_DETAILS.search(text):
        raise Invalid(field, text, 'an answer without tool calls kept as HTML (<details type="tool_calls">)')
    if found:
        import_notes.rule("reasoning_apart")
    return text, "\n\n".join(part for part in found if part)
