"""The sampling fields that Chat and Rank share."""

from __future__ import annotations

import gradio as gr

from feedback_ui import texts


def build_sampling(screen: str) -> tuple[gr.Textbox, gr.Textbox]:
    """Lay out temperature and longest answer, folded away; returns both fields."""
    with gr.Accordion(texts.CHAT_OPTIONS, open=False, elem_classes="tt-options"), gr.Row():
        temperature = gr.Textbox(
            label=texts.CHAT_TEMPERATURE,
            placeholder=texts.CHAT_DEFAULT,
            min_width=120,
            elem_id=f"{screen}-temperature",
        )
        max_tokens = gr.Textbox(
            label=texts.CHAT_MAX_TOKENS,
            placeholder=texts.CHAT_DEFAULT,
            min_width=120,
            elem_id=f"{screen}-max-tokens",
        )
    return temperature, max_tokens
