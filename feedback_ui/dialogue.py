"""Messages and comparisons as HTML, read only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feedback_ui import texts
from feedback_ui.bubbles import steps
from feedback_ui.conversation import Talk
from feedback_ui.frame.actions import Readiness
from feedback_ui.html import badge, esc, fold, notice
from feedback_ui.model_text import plain, rendered
from feedback_ui.rank.actions import Table
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


def revealed(table: Table) -> str:
    """Render what a vote revealed and produced."""
    if table.revealed is None:
        return ""
    names = " ".join(
        f'<span class="tt-reveal"><b>{slot.upper()}</b> {badge(table.revealed.get(slot) or "unknown", "accent")}</span>'
        for slot in ("a", "b")
    )
    made = []
    if table.pairs_made:
        made.append(f"{table.pairs_made} preference pair{'s' if table.pairs_made > 1 else ''}")
    if table.demonstration:
        made.append("a demonstration")
    produced = f"<p>It made {' and '.join(made)}.</p>" if made else ""
    return notice(texts.RANK_VOTED, "good", f"{names}{produced}")


def tally(votes: int, queue: int | None) -> str:
    """Render the rater's own count and the length of the queue."""
    mine = f"<b>{votes}</b> vote{'' if votes == 1 else 's'} this session"
    open_ones = "" if queue is None else f"<b>{queue}</b> waiting in the queue"
    return f'<div class="tt-tally">{"<span>·</span>".join(part for part in (mine, open_ones) if part)}</div>'
