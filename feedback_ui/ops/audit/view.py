"""Ops, Audit: who did what."""

from __future__ import annotations

import gradio as gr

from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.listing import static
from feedback_ui.ops import actions
from feedback_ui.ops.audit import render
from feedback_ui.part import Part, Update


def build_audit(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    log = static(elem_id="ops-audit")

    async def refresh(request: gr.Request) -> Update:
        """Show the newest entries."""
        with toasts():
            async with connection.client(request) as client:
                if not await actions.may_operate(client):
                    return {}
                rows = await actions.audit(client)
        return {log: render.audit(rows)}

    return Part(refresh, [log])
