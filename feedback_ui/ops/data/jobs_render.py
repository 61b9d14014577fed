"""Jobs as the Data tab shows them: how far one is, what it found, and the newest ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, code, duration, empty, esc, number, table

TONES = {"done": "good", "failed": "bad", "cancelled": "warn"}


def job(found: Mapping[str, Any]) -> str:
    """Render one job: its state, then how far it is or what it found."""
    parts = [badge(found.get("state"), TONES.get(str(found.get("state")), "quiet")), esc(_said(found))]
    return f'<p class="tt-hint">{" ".join(parts)} {code(found.get("id"))}</p>'


def _said(found: Mapping[str, Any]) -> str:
    if at := found.get("progress"):
        left = at.get("seconds_left")
        rest = "" if left is None else f", about {duration(left)} left"
        return f"{at.get('doing') or found.get('kind')} {number(at.get('done'))} of {number(at.get('total'))}{rest}"
    if found.get("error"):
        return str(found["error"])
    result = found.get("result") or {}
    if "pairs" in result:
        return texts.MAKE_DONE.format(
            pairs=number(result["pairs"]),
            prompts=number(result.get("prompts")),
            heldout=number(result.get("heldout")),
            undecided=number(result.get("undecided", 0)),
        )
    return ""


def jobs(rows: list[dict[str, Any]]) -> str:
    """Render the newest jobs."""
    if not rows:
        return card(texts.JOBS, empty(texts.JOBS_EMPTY))
    cells = [
        (
            code(row.get("id")),
            esc(row.get("kind")),
            badge(row.get("state"), TONES.get(str(row.get("state")), "quiet")),
            esc(_said(row)),
            ago(row.get("created_at")),
        )
        for row in rows
    ]
    return card(texts.JOBS, table(("Job", "Kind", "State", "How far", "Asked"), cells, texts.JOBS))
