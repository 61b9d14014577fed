"""What a tab hands to its screen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

Update = dict[Any, Any]
"""New values for components, by component: what a handler returns."""


def unchanged() -> Update:
    """Return what leaves every component as it is; Gradio takes an empty dictionary for a missing value."""
    update: Update = gr.skip()
    return update


@dataclass(frozen=True)
class Part:
    """A tab's refresh handler with the components that it reads and writes."""

    refresh: Callable[..., Any]
    outputs: Sequence[Any]
    inputs: Collection[Any] = field(default=())


@dataclass(frozen=True)
class Form:
    """A form of a tab: its field for a deployment, and the event after which the tab shows something else."""

    deployment: Any
    done: Any
