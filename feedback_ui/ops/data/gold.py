"""Ops, Data: the form for questions whose answer is known, to measure raters by."""

from __future__ import annotations

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import form_head
from feedback_ui.listing import static
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.data import actions
from feedback_ui.part import Form, Update


def build_gold(connection: Connection) -> Form:
    """Lay out the form."""
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.GOLD, texts.GOLD_HINT))
        question = gr.Textbox(label=texts.GOLD_QUESTION, lines=2, elem_id="gold-question")
        with gr.Row():
            good = gr.Textbox(label=texts.GOLD_GOOD, lines=2, min_width=240, elem_id="gold-good")
            bad = gr.Textbox(label=texts.GOLD_BAD, lines=2, min_width=240, elem_id="gold-bad")
        deployment = gr.Dropdown(
            [(texts.DATA_EVERY, "")],
            value="",
            allow_custom_value=True,
            label=texts.ROLLOUT_DEPLOYMENT,
            elem_id="gold-deployment",
        )
        with gr.Row(elem_classes="tt-actions"):
            add = gr.Button(texts.GOLD_ADD, min_width=160, scale=0, elem_id="gold-add")
        static(command_lines(gold_add=texts.GOLD_ADD))

    async def on_add(asked: str, right: str, wrong: str, name: str | None, request: gr.Request) -> Update:
        """Put the question into the raters' queue."""
        with toasts():
            async with connection.client(request) as client:
                await actions.add_gold(client, asked or "", right or "", wrong or "", name)
        gr.Info(texts.GOLD_ADDED)
        return {question: "", good: "", bad: ""}

    fields = [question, good, bad]
    done = add.click(on_add, [*fields, deployment], fields, api_name="add_gold", show_progress="hidden")
    return Form(deployment, done)
