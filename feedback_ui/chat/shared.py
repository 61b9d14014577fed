"""A conversation that somebody shared, read only."""

from __future__ import annotations

from typing import Any

from feedback_ui import dialogue, texts
from feedback_ui.html import esc, first_line


def shared_page(found: dict[str, Any]) -> str:
    """Render the conversation of a link: its title, what it is, and its messages."""
    return (
        f'<article class="tt-shared"><header><small>{esc(texts.CHAT_SHARED_TITLE)}</small>'
        f'<h1 dir="auto">{first_line(str(found.get("title") or ""), 120)}</h1><p>{esc(texts.CHAT_SHARED_HINT)} '
        f'<a href="./">{esc(texts.CHAT_SHARED_OWN)}</a></p></header>'
        f"{dialogue.messages(found.get('messages') or (), key='shared')}</article>"
    )
