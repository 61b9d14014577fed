"""The handlers of Chat that record a judgement: thumbs, and which of two answers is better."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat import actions
from feedback_ui.chat.actions import Candidates
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk, message_index
from feedback_ui.errors import toasts
from feedback_ui.part import Update
from trimtab_client.values import Choice


class Judging:
    """Handlers that send what the person thinks of an answer."""

    def __init__(self, screen: ChatScreen, connection: Connection) -> None:
        self.screen, self.connection = screen, connection

    def chooser(self, choice: Choice) -> Callable:
        """Return the handler of a verdict's button."""
        screen = self.screen

        async def on_choice(value: Talk, made: Candidates | None, request: gr.Request) -> Update:
            """Vote on the two answers; the chosen one joins the conversation."""
            if made is None:
                return screen.without_offer()
            with toasts():
                async with self.connection.client(request) as client:
                    chosen = await actions.choose(client, value, made, choice)
            if choice == "both_bad":
                gr.Info(texts.CHAT_BOTH_BAD)
            return {**screen.shown(chosen), **screen.without_offer(), screen.pair: None}

        return on_choice

    async def on_like(self, value: Talk, event: gr.LikeData, request: gr.Request) -> None:
        """Record a thumb, or that it was taken back."""
        verdict = event.liked if isinstance(event.liked, bool) else None
        with toasts():
            async with self.connection.client(request) as client:
                await actions.rate(client, value, value.turn_at(message_index(event.index)), verdict)
