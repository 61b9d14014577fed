"""Ops, Audit: who did what, filtered by who, what, when and any word."""

from __future__ import annotations

from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.days import end_of, start_of
from feedback_ui.errors import toasts
from feedback_ui.listing import static
from feedback_ui.ops import actions
from feedback_ui.ops.audit import render
from feedback_ui.part import Part, Update, unchanged


def build_audit(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    with gr.Row(elem_classes="tt-filters"):
        actor = _choice(texts.AUDIT_ACTOR, "audit-actor")
        action = _choice(texts.AUDIT_ACTION, "audit-action")
        text = gr.Textbox(
            label=texts.AUDIT_TEXT,
            placeholder=texts.AUDIT_TEXT_PLACEHOLDER,
            elem_id="audit-text",
            min_width=180,
        )
        since = _day(texts.AUDIT_SINCE, "audit-since")
        until = _day(texts.AUDIT_UNTIL, "audit-until")
    log = static(elem_id="ops-audit")
    filters = [actor, action, text, since, until]

    async def refresh(
        who: str | None, what: str | None, words: str, first: str, last: str, request: gr.Request
    ) -> Update:
        """Show the newest entries that fit the filters."""
        with toasts():
            wanted: dict[str, Any] = {
                "actor": who, "action": what, "text": words.strip(), "since": start_of(texts.AUDIT_SINCE, first),
                "until": end_of(texts.AUDIT_UNTIL, last),
            }  # fmt: skip
            async with connection.client(request) as client:
                if not await actions.may_operate(client):
                    return unchanged()
                rows = await actions.audit(client, **wanted)
                options = await client.admin.audit_options()
        return {
            log: render.audit(rows, filtered=any(wanted.values())),
            actor: _offered(options["actors"], who),
            action: _offered(options["actions"], what),
        }

    outputs = [log, actor, action]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for choice in (actor, action):
        choice.input(refresh, filters, outputs, **quiet)
    for field in (text, since, until):
        field.submit(refresh, filters, outputs, **quiet)
        field.blur(refresh, filters, outputs, **quiet)
    return Part(refresh, outputs, filters)


def _choice(label: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown([(texts.AUDIT_ALL, "")], value="", label=label, elem_id=elem_id, min_width=150)


def _day(label: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox(label=label, placeholder=texts.AUDIT_DAY, elem_id=elem_id, min_width=120)


def _offered(names: list[str], chosen: str | None) -> gr.Dropdown:
    return gr.Dropdown(
        [(texts.AUDIT_ALL, ""), *((name, name) for name in names)], value=chosen if chosen in names else ""
    )
