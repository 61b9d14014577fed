"""Ops, Data: the form that imports a file, with its progress, its outcome and the refused rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import explain
from feedback_ui.html import form_head
from feedback_ui.listing import static
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.data import imports_actions as actions
from feedback_ui.ops.data import imports_render as render
from feedback_ui.ops.data.imports_actions import Stop
from feedback_ui.part import Form, Update
from trimtab_client.values import Kind


class _UploadFields(NamedTuple):
    """The file, what its rows are, and the buttons."""

    kind: gr.Radio
    deployment: gr.Dropdown
    dry_run: gr.Checkbox
    file: gr.File
    cancel: gr.Button
    start: gr.Button


def _build_upload_fields() -> _UploadFields:
    """Lay out the fields and buttons of an import."""
    with gr.Row():
        with gr.Column(min_width=280):
            kind = gr.Radio(
                list(texts.DATA_KINDS), value="pairs", label=texts.DATA_IMPORT_KIND, elem_id="import-kind"
            )
            deployment = gr.Dropdown(
                [(texts.DATA_EVERY, "")],
                value="",
                allow_custom_value=True,
                label=texts.DATA_IMPORT_DEPLOYMENT,
                elem_id="import-deployment",
            )
            dry_run = gr.Checkbox(label=texts.DATA_IMPORT_DRY, elem_id="import-dry")
        with gr.Column(min_width=280):
            file = gr.File(label=texts.DATA_IMPORT_FILE, height=150, elem_id="import-file")
    with gr.Row(elem_classes="tt-actions"):
        cancel = gr.Button(
            texts.DATA_IMPORT_CANCEL,
            variant="stop",
            interactive=False,
            min_width=140,
            scale=0,
            elem_id="import-cancel",
        )
        start = gr.Button(
            texts.DATA_IMPORT_START, variant="primary", min_width=160, scale=0, elem_id="import-start"
        )
    return _UploadFields(kind, deployment, dry_run, file, cancel, start)


def build_import(connection: Connection) -> Form:
    """Lay out the form; `done` of what it returns is the event of an import's end."""
    stopper = gr.State(None)
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.DATA_IMPORT, texts.DATA_IMPORT_HINT))
        upload = _build_upload_fields()
        result = static(elem_id="import-result")
        with gr.Row(elem_classes="tt-actions", visible=False) as refused_row:
            refused = gr.DownloadButton(
                texts.DATA_IMPORT_REFUSED, min_width=260, scale=0, elem_id="import-refused"
            )
        static(
            command_lines(
                import_start=texts.DATA_IMPORT_START,
                import_cancel=texts.DATA_IMPORT_CANCEL,
                import_refused=texts.DATA_IMPORT_REFUSED,
            )
        )

    def busy(is_busy: bool) -> Update:
        return {
            upload.start: gr.Button(interactive=not is_busy),
            upload.cancel: gr.Button(interactive=is_busy),
        }

    async def on_import(
        path: str | None, kind: Kind, name: str | None, dry: bool, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Import a file and show how far that is."""
        if not path:
            gr.Warning(texts.DATA_IMPORT_NO_FILE)
            yield {result: ""}
            return
        stop = Stop()
        yield {stopper: stop, **busy(True)}
        try:
            async with (
                connection.client(request) as client,
                aclosing(actions.follow(client, Path(path), kind, name, dry, stop)) as steps,
            ):
                async for now in steps:
                    # Once more with each step: Gradio may lose the first of two changes in quick succession.
                    can_cancel = {upload.cancel: gr.Button(interactive=not stop.said)}
                    yield {result: render.imported(now), **busy(True), **can_cancel}
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield {result: "", **busy(False)}
            return
        yield {
            # Shown or hidden once an import: Gradio may lose the first of two changes in quick succession.
            refused_row: gr.Row(visible=now.refused is not None),
            refused: gr.DownloadButton(value=str(now.refused) if now.refused else None),
            **({upload.file: None} if now.taken else {}),
            **busy(False),
        }
        await asyncio.to_thread(actions.put_away, now, Path(path))  # Gradio serves a copy of the refused rows

    def on_cancel(stop: Stop | None) -> Update:
        """Tell the import, which ends and says what that leaves: said from here, a late word of it would cover that."""
        if stop:
            stop.said = True
        return {upload.cancel: gr.Button(interactive=False)}

    screen = [stopper, result, refused, refused_row, upload.start, upload.cancel, upload.file]
    started = upload.start.click(
        on_import,
        [upload.file, upload.kind, upload.deployment, upload.dry_run],
        screen,
        api_name="import",
        show_progress="hidden",
        trigger_mode="once",
    )
    # Whatever ends an import, also what Gradio itself refuses to send: the form can be used again.
    started.failure(
        lambda: busy(False),
        None,
        [upload.start, upload.cancel],
        show_progress="hidden",
        api_visibility="private",
    )
    upload.cancel.click(
        on_cancel, [stopper], [upload.cancel], show_progress="hidden", api_visibility="private"
    )
    return Form(upload.deployment, started)
