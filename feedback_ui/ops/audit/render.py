"""The Audit tab."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, empty, esc, first_line, table


def audit(rows: Sequence[Mapping[str, Any]], filtered: bool = False) -> str:
    """Render the audit log, newest first."""
    if not rows:
        return card("Audit log", empty(texts.AUDIT_NOTHING if filtered else texts.AUDIT_EMPTY))
    cells = [
        (
            ago(row.get("created_at")),
            esc(row.get("actor") or "platform"),
            badge(row.get("action")),
            esc(row.get("subject")),
            f"<code>{first_line(json.dumps(row['detail'], default=str), 120)}</code>"
            if row.get("detail")
            else "",
        )
        for row in rows
    ]
    return card("Audit log", table(("When", "Who", "What", "Subject", "Detail"), cells, "Audit log"))
