"""The screens of Trimtab: Chat, Rank and Ops, in Gradio.

A client of the platform's HTTP contract and nothing else: it opens no store, reaches no engine and decides no
permission. Whatever the browser may do is decided where the platform reads the forwarded cookie or key.

views    lay components out and wire their events
actions  talk to the platform through `trimtab_client.AsyncClient` and return small values
render   turn the platform's JSON into HTML, purely
texts    every sentence that a person reads
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedback_ui.app import build, mount

__all__ = ["build", "mount"]


def __getattr__(name: str) -> Any:
    """Import the screens, and with them Gradio, when they are asked for: the texts are used without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from feedback_ui import app

    return getattr(app, name)
