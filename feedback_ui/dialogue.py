"""Messages as HTML, read only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feedback_ui import texts
from feedback_ui.bubbles import steps
from feedback_ui.conversation import Talk
from feedback_ui.frame.actions import Readiness
from feedback_ui.html import esc, fold, notice
from feedback_ui.model_text import plain, rendered
from feedback_ui.turn import read_turn


def readiness(state: Readiness) -> str:
    """Render a notice while models don't answer; nothing once they do."""
    if state.ready:
        return ""
    if state.word == texts.OFFLINE:
        return notice(texts.UNREACHABLE, "bad")
    title = texts.ENGINE_FAILED if state.failed else texts.ENGINE_LOADING
    lines = "".join(f"<code>{esc(line[-300:])}</code>" for line in state.log)
    missing = f"<p>{esc('; '.join(state.missing))}</p>" if state.missing else ""
    hint = "" if state.failed else f"<p>{esc(texts.ENGINE_LOADING_BODY)}</p>"
    tone = "bad" if state.failed else "warn"
    return notice(title, f"{tone} tt-busy" if not state.failed else tone, hint + missing + lines)


def messages(rows: Iterable[Mapping[str, Any]], *, as_written: bool = False, key: str = "asked") -> str:
    """Render a conversation read only, one block per message, as Markdown or as it was written.

    `key` tells its folds from those of others on the page.
    """
    form = plain if as_written else rendered
    talk = Talk(None, tuple(read_turn(row) for row in rows))
    if any(turn.carried for turn in talk.turns):
        blocks = [
            _message(
                turns[0].role if turns[0].role == "user" else "assistant",
                steps(turns, f"{key} {place} ", as_written=as_written),
            )
            for place, turns in enumerate(talk.runs())
        ]
        blocks.insert(0, talk.context(key))
    else:
        blocks = [_message(turn.role, form(turn.content)) for turn in talk.turns]
    return f'<div class="tt-dialogue">{"".join(blocks)}</div>'


def _message(role: str, html: str) -> str:
    return f'<div class="tt-message tt-{esc(role)}"><small>{esc(role)}</small>{html}</div>'


def earlier(rows: Iterable[dict[str, Any]]) -> str:
    """Render what came before a drawn prompt; nothing for a prompt that stands alone."""
    rows = list(rows)
    return fold("earlier", f"{texts.RANK_SYSTEM} ({len(rows)})", messages(rows)) if rows else ""
