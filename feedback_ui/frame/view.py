"""What every screen has: the bar on top, and the loader that fills it and guards the screen by role."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from feedback_ui import dialogue
from feedback_ui.connection import Connection
from feedback_ui.frame import render as frame
from feedback_ui.frame.actions import readiness, whoami
from feedback_ui.part import Update


@dataclass(frozen=True)
class Frame:
    """The parts of a screen that its view and the loader share."""

    screen: str
    bar: gr.HTML
    notice: gr.HTML
    denied: gr.HTML


def build_frame(screen: str) -> Frame:
    """Lay out the bar, the platform's notice and the place for a refusal."""
    bar = gr.HTML(frame.header(screen), elem_id="tt-bar", js_on_load=None)
    notice = gr.HTML("", elem_id="tt-notice", js_on_load=None)
    denied = gr.HTML("", visible=False, elem_id="tt-denied", js_on_load=None)
    return Frame(screen, bar, notice, denied)


def wire_frame(demo: gr.Blocks, parts: Frame, body: gr.Column, connection: Connection) -> None:
    """Fill the bar when the page opens and keep it fresh: every 3 s while the platform loads, then every 20 s."""
    timer = gr.Timer(3.0)

    async def open_screen(request: gr.Request) -> Update:
        async with connection.client(request) as client:
            who = await whoami(client)
            state = await readiness(client)
        roles = list((who or {}).get("roles", ()))
        allowed = who is None or frame.may(set(roles), parts.screen)
        return {
            parts.bar: frame.header(parts.screen, who, state.word),
            parts.notice: dialogue.readiness(state),
            parts.denied: gr.HTML(frame.denied(parts.screen, roles), visible=not allowed),
            body: gr.Column(visible=allowed),
            timer: gr.Timer(20.0 if state.ready else 3.0),
        }

    outputs = [parts.bar, parts.notice, parts.denied, body, timer]
    demo.load(open_screen, None, outputs, show_progress="hidden", api_visibility="private")
    timer.tick(open_screen, None, outputs, show_progress="hidden", api_visibility="private")
