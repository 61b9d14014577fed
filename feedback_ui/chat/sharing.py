"""What the person shares of their conversations: the control in Chat, and its handlers."""

from __future__ import annotations

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import explain
from feedback_ui.listing import static
from trimtab_client.values import SHARES


def build_share() -> gr.Radio:
    """Lay out the choice; the platform has what was chosen, so it is the same on every device."""
    with gr.Row(elem_classes="tt-sharing", equal_height=False):
        # In a narrow window the choices are folded below their label (style.css), so that the conversation has the room.
        static(
            f'<span>{texts.CHAT_SHARE}</span><button type="button" class="tt-share-menu" data-tt="sharing" '
            f'aria-expanded="false">{texts.CHAT_SHARE}</button>'
        )
        return gr.Radio(
            list(texts.CHAT_SHARES),
            label=texts.CHAT_SHARE,
            show_label=False,
            container=False,
            min_width=200,
            elem_id="chat-share",
        )


class Sharing:
    """Handlers that read and set what the person shares."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def on_open(self, request: gr.Request) -> str | None:
        """Return what is shared now."""
        try:
            async with self.connection.client(request) as client:
                return (await client.chat.shared())["share"]
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED)
            return None

    async def on_choose(self, wanted: str, request: gr.Request) -> str | None:
        """Save a choice; where that fails, show what holds still."""
        share = next((known for known in SHARES if known == wanted), None)
        try:
            async with self.connection.client(request) as client:
                saved = (await client.chat.set_share(share))["share"]
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            return await self.on_open(request)
        gr.Info(texts.CHAT_SHARED[saved])
        return saved
