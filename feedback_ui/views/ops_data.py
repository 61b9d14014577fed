"""Ops, Data: the newest pairs and demonstrations, and import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import gradio as gr

from feedback_ui import copy
from feedback_ui.actions import data as actions
from feedback_ui.actions import ops
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import form_head
from feedback_ui.render import people as render
from feedback_ui.views.listing import static
from feedback_ui.views.part import Part, Update


def build_data(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    with gr.Group(elem_classes="tt-form"):
        static(form_head(copy.DATA_IMPORT, copy.DATA_IMPORT_HINT))
        with gr.Row():
            kind = gr.Radio(
                list(copy.DATA_KINDS), value="pairs", label=copy.DATA_IMPORT_KIND, elem_id="import-kind"
            )
            file = gr.File(
                label=copy.DATA_IMPORT_FILE,
                file_types=[".jsonl", ".json"],
                height=110,
                elem_id="import-file",
            )
        start = gr.Button(copy.DATA_IMPORT_START, variant="primary", elem_id="import-start")
        result = static(elem_id="import-result")
    pairs = static(elem_id="ops-pairs")
    demonstrations = static(elem_id="ops-demonstrations")
    raters = static(elem_id="ops-raters")
    snapshots = static(elem_id="ops-snapshots")

    async def refresh(request: gr.Request) -> Update:
        """Show the newest rows."""
        with toasts():
            async with connection.client(request) as client:
                if not await ops.may_operate(client):
                    return {}
                held = await actions.holdings(client)
        return {
            pairs: render.pairs(held),
            demonstrations: render.demonstrations(held),
            raters: render.raters(held),
            snapshots: render.snapshots(held),
        }

    async def on_import(path: str | None, noun: str, request: gr.Request) -> AsyncIterator[Update]:
        """Import a file, batch by batch."""
        if not path:
            gr.Warning(copy.DATA_IMPORT_NO_FILE)
            yield {}
            return
        with toasts():
            rows = actions.read_rows(Path(path))
            done = actions.Imported(len(rows))
            async with connection.client(request) as client:
                while done.sent < done.total:
                    await actions.import_rows(client, noun, rows, done)
                    yield {result: render.imported(done)}
        yield {**await refresh(request), file: None}

    screen = [pairs, demonstrations, raters, snapshots, result, file]
    start.click(on_import, [file, kind], screen, api_name="import", show_progress="hidden")
    return Part(refresh, screen)
