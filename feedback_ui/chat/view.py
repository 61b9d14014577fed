"""The Chat screen."""

from __future__ import annotations

import gradio as gr

from feedback_ui.chat.layout import build_layout
from feedback_ui.chat.wiring import wire_chat
from feedback_ui.connection import Connection
from feedback_ui.frame.view import build_frame, wire_frame


def build_chat(demo: gr.Blocks, connection: Connection) -> None:
    """Lay out and wire the Chat screen on the current page."""
    frame = build_frame("chat")
    screen = build_layout(frame.notice)
    wire_frame(demo, frame, screen.body, connection)
    wire_chat(demo, screen, connection)
