"""Ops, Data: the form that has pairs made without people, with its progress."""

from __future__ import annotations

from collections.abc import AsyncIterator

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import explain, toasts
from feedback_ui.html import form_head
from feedback_ui.listing import static
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.data import jobs_actions as actions
from feedback_ui.ops.data import jobs_render as render
from feedback_ui.part import Form, Update


def build_make_pairs(connection: Connection) -> Form:
    """Lay out the form; a job that it started goes on when the page is closed."""
    under_way = gr.State(None)
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.MAKE, texts.MAKE_HINT))
        with gr.Row():
            with gr.Column(min_width=280):
                deployment = gr.Dropdown(
                    [], label=texts.ROLLOUT_DEPLOYMENT, allow_custom_value=True, elem_id="make-deployment"
                )
                prefer = gr.Radio(
                    list(texts.MAKE_PREFERENCES),
                    value="shorter",
                    label=texts.MAKE_PREFER,
                    elem_id="make-prefer",
                )
                n = gr.Slider(2, 16, value=4, step=1, label=texts.MAKE_N, elem_id="make-n")
            with gr.Column(min_width=280):
                prompts = gr.Textbox(
                    label=texts.MAKE_PROMPTS,
                    placeholder=texts.MAKE_PROMPTS_NONE,
                    lines=6,
                    elem_id="make-prompts",
                )
        result = static(elem_id="make-result")
        with gr.Row(elem_classes="tt-actions"):
            cancel = gr.Button(
                texts.MAKE_CANCEL,
                variant="stop",
                interactive=False,
                min_width=140,
                scale=0,
                elem_id="make-cancel",
            )
            start = gr.Button(
                texts.MAKE_START, variant="primary", min_width=160, scale=0, elem_id="make-start"
            )
        static(command_lines(make_start=texts.MAKE_START, make_cancel=texts.MAKE_CANCEL))

    def busy(is_busy: bool) -> Update:
        return {start: gr.Button(interactive=not is_busy), cancel: gr.Button(interactive=is_busy)}

    async def on_make(
        name: str | None, asked: str | None, wanted: str, count: float, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Have pairs made and show how far that is."""
        try:
            async with connection.client(request) as client:
                async for job in actions.make_pairs(client, name or "", asked or "", wanted, count):
                    yield {under_way: job["id"], result: render.job(job), **busy(True)}
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield {under_way: None, result: "", **busy(False)}
            return
        yield {under_way: None, **busy(False)}

    async def on_cancel(job: str | None, request: gr.Request) -> Update:
        """Cancel the job; what was sampled is kept."""
        if job:
            with toasts():
                async with connection.client(request) as client:
                    await client.jobs.cancel(job)
        return {cancel: gr.Button(interactive=False)}

    started = start.click(
        on_make,
        [deployment, prompts, prefer, n],
        [under_way, result, start, cancel],
        api_name="make_pairs",
        show_progress="hidden",
        trigger_mode="once",
    )
    cancel.click(on_cancel, [under_way], [cancel], show_progress="hidden", api_visibility="private")
    return Form(deployment, started)
