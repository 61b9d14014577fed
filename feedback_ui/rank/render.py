"""What Rank shows beside the responses, as HTML: the tally, guidelines, reasons to skip, the rater's own votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, empty, esc, first_line, notice
from feedback_ui.model_text import rendered
from feedback_ui.rank.actions import Table


def tally(table: Table, queue: int | None) -> str:
    """Render the rater's own progress and the length of the queue."""
    parts = [f"<b>{table.votes}</b> vote{'' if table.votes == 1 else 's'} this session"]
    mine = table.summary or {}
    if mine.get("today", 0) > table.votes:
        parts.append(f"<b>{mine['today']}</b> today")
    if mine.get("streak", 0) > 1:
        parts.append(f"<b>{mine['streak']}</b> days in a row")
    if mine.get("gold_total"):
        parts.append(f"<b>{mine['gold_right']}</b> of {mine['gold_total']} known answers right")
    if queue is not None:
        parts.append(f"<b>{queue}</b> waiting in the queue")
    return f'<div class="tt-tally">{"".join(f"<span>{part}</span>" for part in parts)}</div>'


def outcome(table: Table) -> str:
    """Render what a vote revealed and produced, or that the last one was taken back."""
    if table.taken_back:
        return notice(texts.RANK_UNDONE, "accent")
    if table.revealed is None:
        return ""
    names = " ".join(
        f'<span class="tt-reveal"><b>{slot.upper()}</b> {badge(table.revealed.get(slot) or "unknown", "accent")}</span>'
        for slot in sorted(table.revealed)
    )
    made = []
    if table.pairs_made:
        made.append(f"{table.pairs_made} preference pair{'s' if table.pairs_made > 1 else ''}")
    if table.demonstration:
        made.append("a demonstration")
    produced = f"<p>It made {' and '.join(made)}.</p>" if made else ""
    return notice(texts.RANK_VOTED, "good", f"{names}{produced}")


def order(sides: Iterable[str]) -> str:
    """Render the buttons that put answers in an order; assets/trimtab.js keeps the order in `data-order`, as `c>a=b`."""
    places = "".join(
        f'<button type="button" data-place="{esc(side)}" aria-pressed="false">{esc(side.upper())}</button>'
        for side in sides
    )
    return (
        f'<div class="tt-order" data-order=""><p role="status" data-hint="{esc(texts.RANK_ORDER_HINT)}">'
        f"{esc(texts.RANK_ORDER_HINT)}</p><div>{places}"
        f'<button type="button" data-place="=" aria-pressed="false">{esc(texts.RANK_ORDER_TIE)}</button>'
        f'<button type="button" data-place="">{esc(texts.RANK_ORDER_CLEAR)}</button></div></div>'
    )


def guidelines(text: str) -> str:
    """Render a button and the page that it opens (see assets/trimtab.js); nothing where the operator wrote none."""
    if not text.strip():
        return ""
    return (
        f'<button type="button" class="tt-link" data-tt="guidelines">{esc(texts.RANK_GUIDELINES_KEY)}</button>'
        f'<dialog class="tt-keys tt-guidelines" aria-label="{esc(texts.RANK_GUIDELINES)}">'
        f"<h2>{esc(texts.RANK_GUIDELINES)}</h2>{rendered(text)}"
        f'<form method="dialog"><button>{esc(texts.SHORTCUTS_CLOSE)}</button></form></dialog>'
    )


def skip_menu(reasons: Iterable[str]) -> str:
    """Render the reasons for skipping a comparison as a menu of buttons."""
    buttons = "".join(
        f'<button type="button" data-id="{esc(reason)}">{esc(reason)}</button>' for reason in reasons
    )
    if not buttons:
        return ""
    return (
        f'<details class="tt-export tt-skip"><summary>{esc(texts.RANK_SKIP_BECAUSE)}</summary>'
        f"<div>{buttons}</div></details>"
    )


def history(rows: Iterable[Mapping[str, Any]]) -> str:
    """Render the rater's own votes, newest first, each with a button that takes it back and shows it again."""
    items = [_cast(row) for row in rows]
    return f'<ul class="tt-rows tt-cast">{"".join(items)}</ul>' if items else empty(texts.RANK_HISTORY_EMPTY)


def _cast(row: Mapping[str, Any]) -> str:
    said = [badge(texts.RANK_VERDICT.get(row["choice"], row["choice"]), "accent")]
    if row.get("strength"):
        said.append(esc(row["strength"]))
    if row.get("revised"):
        said.append(badge(texts.RANK_REVISED))
    again = f'<button type="button" class="tt-link" data-id="{esc(row["comparison"])}">{esc(texts.RANK_REOPEN)}</button>'
    return (
        f'<li><span class="tt-row-said">{first_line(str(row.get("asked") or ""), 90)}</span>'
        f'<span class="tt-row-facts">{" ".join(said)} {ago(row.get("created_at"))} {again}</span></li>'
    )
