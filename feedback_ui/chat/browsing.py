"""The handlers of Chat that show a conversation: the page opens, one is picked, a new one begins."""

from __future__ import annotations

import gradio as gr

from feedback_ui import dialogue, texts
from feedback_ui.chat import actions
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk
from feedback_ui.errors import explain, toasts
from feedback_ui.part import Update


class Browsing:
    """Handlers that load conversations."""

    def __init__(self, screen: ChatScreen, connection: Connection) -> None:
        self.screen, self.connection = screen, connection

    async def on_open(self, last: str | None, request: gr.Request) -> Update:
        """Show the models, the past conversations, and the one that the address names.

        `last` is the model that was chosen last in this browser.
        """
        opened = request.query_params.get("c")
        with toasts():
            async with self.connection.client(request) as client:
                choices = await actions.model_choices(client)
                rows = await actions.history(client)
                value = Talk()
                if opened:
                    try:
                        value = await actions.reopen(client, opened)
                    except Exception as error:
                        gr.Warning(explain(error))
        if not choices:
            gr.Warning(texts.NO_MODELS)
        names = [name for _, name in choices]
        chosen = last if last in names else next(iter(names), None)
        # Without a conversation to show, leave the log alone: a quick first message may be under way in it.
        return {
            **(self.screen.shown(value) if value.turns else {}),
            self.screen.model: gr.Dropdown(choices, value=chosen),
            self.screen.past: dialogue.conversations(rows, value.conversation),
        }

    async def on_search(self, text: str, value: Talk, request: gr.Request) -> Update:
        """List the conversations with a text in them, all for an empty one."""
        with toasts():
            async with self.connection.client(request) as client:
                rows = await actions.history(client, search=text)
        nothing = texts.CHAT_SEARCH_EMPTY if text.strip() else texts.CHAT_HISTORY_EMPTY
        return {self.screen.past: dialogue.conversations(rows, value.conversation, nothing)}

    async def on_pick(self, text: str, event: gr.EventData, request: gr.Request) -> Update:
        """Show the conversation that was clicked; what was searched for stays listed."""
        with toasts():
            async with self.connection.client(request) as client:
                value = await actions.reopen(client, str(event.id))
                rows = await actions.history(client, search=text)
        return {
            **self.screen.shown(value),
            self.screen.past: dialogue.conversations(rows, value.conversation),
            **self.screen.without_offer(),
        }

    async def on_new(self, request: gr.Request) -> Update:
        """Begin an empty conversation."""
        with toasts():
            async with self.connection.client(request) as client:
                rows = await actions.history(client)
        return {
            **self.screen.shown(Talk()),
            **self.screen.busy(False),
            self.screen.past: dialogue.conversations(rows, None),
            **self.screen.without_offer(),
        }
