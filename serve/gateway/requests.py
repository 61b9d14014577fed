"""Request bodies: read, checked at the edge, and made into what the engine gets.

Checks what the platform itself reads (the model's name, the shape of the messages, flags and limits) and leaves every
other field to the engine, which accepts far more of them: unknown fields pass through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from common.chat_messages import REQUEST_ROLES, context_of, served, text_of, without_tools
from serve.errors import RequestError
from serve.metering.limits import Limits
from serve.router import Target
from store import tool_definitions
from store.errors import Invalid
from store.rollout import chat_template_kwargs

MAX_SHOWN = 100
"""How many characters of a refused value an error repeats."""
FLAGS = ("stream", "store")
"""Fields that decide how the gateway answers and what it keeps; the engine would accept "false" as text."""


def parse(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; raises `RequestError` (400)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise RequestError(f"The body must be a JSON object, not {_kind(body)}.", code="invalid_json")
    return body


def to_bytes(body: Mapping[str, Any]) -> bytes:
    """Write a request to the engine; raises `RequestError` (400) for a value that JSON has no form for."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:  # a number above 64 bits, half of a surrogate pair
        raise RequestError(f"The request holds a value that cannot be passed on: {error}.") from error


def model_of(body: Mapping[str, Any]) -> str:
    """Return the body's `model`; raises `RequestError` when it is missing or no text."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError(
            "`model` is required: the name of a deployment, a release or a base model.", "model"
        )
    return model


def check_chat(body: Mapping[str, Any], limits: Limits) -> None:
    """Check `messages` and the limits of a chat request; raises `RequestError` naming the field."""
    for message, where in listed(body, "messages", limits):
        check_message(message, where)
    check_types(body)
    check_numbers(body, limits, ("max_tokens", "max_completion_tokens"))


def listed(body: Mapping[str, Any], field: str, limits: Limits) -> Iterator[tuple[Any, str]]:
    """Give each message of the list in `field` with its place, such as `messages[2]`.

    Raises `RequestError` where it is no list, or holds none or more than `limits.max_messages`.
    """
    given = body.get(field)
    if not isinstance(given, list) or not given:
        raise RequestError(f"`{field}` must be a list with at least one message.", field)
    if len(given) > limits.max_messages:
        raise RequestError(
            f"`{field}` holds {len(given)} messages; accepted: up to {limits.max_messages}.", field
        )
    return ((message, f"{field}[{place}]") for place, message in enumerate(given))


def check_completion(body: Mapping[str, Any], limits: Limits) -> None:
    """Check the limits of a completions request; raises `RequestError` naming the field."""
    if "messages" in body:
        raise RequestError(
            "`messages` belongs to /v1/chat/completions; this path takes `prompt`.", "messages"
        )
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) and "prompt_embeds" not in body:
        raise RequestError("`prompt` must be text, or a list of texts or of token ids.", "prompt")
    check_types(body)
    check_numbers(body, limits, ("max_tokens",))


def check_message(message: Any, where: str, roles: Sequence[str] = REQUEST_ROLES) -> None:
    """Check a message's role and the shape of its content; raises `RequestError` naming the field in `where`."""
    if not isinstance(message, dict):
        raise RequestError(f"`{where}` must be an object with role and content, not {_kind(message)}.", where)
    role = message.get("role")
    if role not in roles:
        raise RequestError(
            f"`{where}.role` is {_shown(role)}; accepted: {', '.join(roles)}.",
            f"{where}.role",
            accepted=roles,
        )
    content = message.get("content")
    if isinstance(content, str) or (content is None and role == "assistant"):
        return  # null: an answer of tool calls alone, or a refusal
    if not isinstance(content, list):
        raise RequestError(
            f"`{where}.content` must be text or a list of parts, not {_kind(content)}.", f"{where}.content"
        )
    for j, part in enumerate(content):
        _check_part(part, f"{where}.content[{j}]")


def _check_part(part: Any, where: str) -> None:
    if isinstance(part, str):
        return
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise RequestError(f"`{where}` must be an object with a type.", where)
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise RequestError(f"`{where}.text` must be text, not {_kind(part.get('text'))}.", f"{where}.text")


def check_types(body: Mapping[str, Any]) -> None:
    """Check the types of the fields that requests share and the gateway reads; raises `RequestError`."""
    for name in FLAGS:
        _check_flag(body.get(name), name)
    user = body.get("user")
    if user is not None and not isinstance(user, str):
        raise RequestError(f"`user` must be text, not {_kind(user)}.", "user")
    kwargs = body.get(chat_template_kwargs.KEY)
    if kwargs is not None and not isinstance(kwargs, dict):
        message = f"`{chat_template_kwargs.KEY}` must be an object, not {_kind(kwargs)}."
        raise RequestError(message, chat_template_kwargs.KEY)
    options = body.get("stream_options")
    if options is None:
        return
    if not isinstance(options, dict):
        raise RequestError(f"`stream_options` must be an object, not {_kind(options)}.", "stream_options")
    _check_flag(options.get("include_usage"), "stream_options.include_usage")


def _check_flag(value: Any, name: str) -> None:
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"`{name}` is {_shown(value)}; accepted: true or false, not in quotes.", name)


def check_numbers(body: Mapping[str, Any], limits: Limits, names: tuple[str, ...]) -> None:
    """Check the fields that count tokens, and `n`; raises `RequestError`."""
    for name in names:
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise RequestError(f"`{name}` is {_shown(value)}; accepted: a whole number, 0 or more.", name)
        if value is not None and limits.max_tokens is not None and value > limits.max_tokens:
            raise RequestError(f"`{name}` is {value}; accepted: up to {limits.max_tokens}.", name)
    n = body.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= limits.max_n):
        raise RequestError(f"`n` is {_shown(n)}; accepted: a whole number from 1 to {limits.max_n}.", "n")


def continued(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the answer that a request has continued (vLLM's `continue_final_message`), else nothing."""
    if body.get("continue_final_message") is not True or messages[-1].get("role") != "assistant":
        return ""
    return text_of(messages[-1].get("content")) or ""


def for_engine(body: Mapping[str, Any], target: Target, limits: Limits) -> tuple[dict[str, Any], bool]:
    """Return the body that the engine gets, and whether the client asked for usage in the stream.

    The engine's own name of the model goes in; the release's sampling defaults fill the fields that the
    client left out, and its arguments of the chat template the keys that the client left out; the release's system
    prompt comes first unless the conversation has a system (or developer) message of its own, and content in several
    text parts is one text (see `common.chat_messages`). A stream always reports its usage, which the gateway counts.
    """
    out = dict(body)
    out.pop("store", None)
    out["model"] = target.engine_model
    for key, value in target.sampling.items():
        if out.get(key) is None:
            out[key] = value
        elif key == chat_template_kwargs.KEY:
            out[key] = {**value, **out[key]}
    if limits.max_tokens is not None and not any(out.get(k) for k in ("max_tokens", "max_completion_tokens")):
        out["max_tokens"] = limits.max_tokens
    if (messages := out.get("messages")) is not None:
        if "tools" in messages[0]:  # a conversation as the store keeps it
            out.setdefault("tools", _tools(messages[0]["tools"]))
            messages = without_tools(messages)
        out["messages"] = served(messages, context_of(target.system_prompt))
    if "tools" in out and not out["tools"]:
        del out["tools"]  # some templates write more for an empty list than for none
    asked = True
    if out.get("stream"):
        options = out.get("stream_options") or {}
        asked = bool(options.get("include_usage"))
        out["stream_options"] = {**options, "include_usage": True}
    return out, asked


def _tools(value: Any) -> Any:
    try:
        text = tool_definitions.read(value, "messages[0].tools")
    except Invalid as error:
        raise RequestError(f"{error}.", "messages[0].tools") from error
    return orjson.loads(text) if text else None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    """Return a refused value as an error repeats it: cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
