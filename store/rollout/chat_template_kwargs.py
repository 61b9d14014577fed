"""Arguments of the chat template that a release fixes, such as `enable_thinking`; vLLM's `chat_template_kwargs`.

They are kept among the release's sampling defaults, so whatever makes a release with the sampling of another keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.errors import Invalid

KEY = "chat_template_kwargs"
RESERVED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""What the engine and training give to a template themselves, or to the function that renders it."""


def check(value: object) -> dict[str, Any]:
    """Return the arguments; None is none. Raises `Invalid` naming the key that a release cannot fix."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise Invalid(KEY, value, "an object, such as {'enable_thinking': false}")
    for key, given in value.items():
        if key in RESERVED:
            raise Invalid(f"{KEY}.{key}", given, "a key that is not reserved, since each request has its own")
        if _holds_null(given):
            raise Invalid(f"{KEY}.{key}", given, "a value without null; leave out what is not fixed")
    return dict(value)


def fixed_by(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments among the sampling defaults of a release; none is empty."""
    return dict(sampling.get(KEY) or {})


def without(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling defaults of a release alone."""
    return {name: value for name, value in sampling.items() if name != KEY}


def joined(sampling: Mapping[str, Any], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return sampling defaults with these arguments of the template in place of those that they have."""
    return without(sampling) | ({KEY: dict(kwargs)} if kwargs else {})


def _holds_null(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_null(inner) for inner in value.values())
    return value is None or (isinstance(value, list) and any(_holds_null(inner) for inner in value))
