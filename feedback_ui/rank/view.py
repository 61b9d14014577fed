"""The Rank screen: blind comparisons, one after the other, by mouse or by key."""

from __future__ import annotations

import gradio as gr

from feedback_ui.connection import Connection
from feedback_ui.frame.view import build_frame, wire_frame
from feedback_ui.rank.layout import build_layout
from feedback_ui.rank.wiring import wire_rank


def build_rank(demo: gr.Blocks, connection: Connection) -> None:
    """Lay out and wire the Rank screen on the current page."""
    frame = build_frame("rank")
    screen = build_layout()
    wire_frame(demo, frame, screen.body, connection)
    wire_rank(demo, screen, connection)
