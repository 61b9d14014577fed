"""Whether a base model's chat template reads what a release is to fix of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serve.engine.output_parsers import chat_template
from store.rollout import chat_template_kwargs
from trimtab.api.problems import Problem
from trimtab.serving import Serving

_GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
"""A tag that transformers adds to the language; it reads nothing."""
_GIVEN = frozenset({"messages", "tools", "add_generation_prompt", "raise_exception", "strftime_now"})
"""What every template gets without a release."""


def require_template_reads(serving: Serving, base: str, kwargs: Mapping[str, Any]) -> None:
    """Check the arguments that a release is to fix. Blocking.

    Raises `Invalid` for a key or value that none can fix, and `Problem` for a key that the template of `base` does not
    read, which would change nothing. A template that is not on this machine reads anything.
    """
    chat_template_kwargs.check(kwargs)
    read = _variables(serving, base) if kwargs else None
    if read is None:
        return
    if unread := sorted(set(kwargs) - read):
        raise Problem(
            422,
            f"the chat template of {base} does not read {', '.join(unread)}",
            field=f"{chat_template_kwargs.KEY}.{unread[0]}",
            accepted=", ".join(sorted(name for name in read - _GIVEN if not name.endswith("_token")))
            or "none",
        )


def _variables(serving: Serving, base: str) -> set[str] | None:
    """Return the variables that the template reads, None where it is not known."""
    if any(engine.spec.args.get("chat-template") for engine in serving.pool.engines(base)):
        return None
    model = Path(serving.model_path(base))
    template = chat_template(model) if model.is_dir() else ""
    if not template:
        return None
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return meta.find_undeclared_variables(environment.parse(_GENERATION.sub("", template)))
    except TemplateError:
        return None
