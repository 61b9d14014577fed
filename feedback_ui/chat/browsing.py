"""The handlers of Chat that show a conversation: the page opens, one is picked, a new one begins."""

from __future__ import annotations

import time

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat import actions
from feedback_ui.chat.live import Live, LiveAnswers
from feedback_ui.chat.reasons import context_use
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.chat.shared import shared_page
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk
from feedback_ui.errors import explain, sentence, toasts
from feedback_ui.html import empty
from feedback_ui.part import Update, unchanged
from trimtab_client import ApiError, AsyncClient


class Browsing:
    """Handlers that load conversations."""

    def __init__(self, screen: ChatScreen, connection: Connection, answers: LiveAnswers) -> None:
        self.screen, self.connection, self.answers = screen, connection, answers

    async def on_open(self, last: str | None, request: gr.Request) -> Update:
        """Show the models, the past conversations, and the one that the address names.

        `last` is the model that was chosen last in this browser.
        """
        opened, shared = (request.query_params.get(name) for name in ("c", "shared"))
        with toasts():
            async with self.connection.client(request) as client:
                choices = await actions.model_choices(client, await actions.is_operator(client))
                value, live = Talk(), None
                if opened:
                    try:
                        value, live = await self._opened(client, opened)
                    except Exception as error:
                        gr.Warning(explain(error))
                listed = await actions.listed(client, value.conversation)
                read = await self._read_shared(client, shared) if shared else {}
        if not choices:
            gr.Warning(texts.NO_MODELS)
        names = [name for _, name in choices]
        chosen = last if last in names else next(iter(names), None)
        # Without a conversation to show, leave the log alone: a quick first message may be under way in it.
        return {
            **(self.screen.shown(value) if value.turns else {}),
            **self._to_follow(live),
            self.screen.model: gr.Dropdown(choices, value=chosen),
            self.screen.past: listed,
            **read,
        }

    async def _read_shared(self, client: AsyncClient, token: str) -> Update:
        """Show the conversation of a link in the place of one's own."""
        try:
            html = shared_page(await client.chat.shared_conversation(token))
        except ApiError as error:
            html = empty(texts.CHAT_SHARED_GONE if error.status == 404 else sentence(error))
        return {self.screen.shared: gr.HTML(html, visible=True), self.screen.column: gr.Column(visible=False)}

    async def on_search(self, text: str, value: Talk, request: gr.Request) -> Update:
        """List the conversations with a text in them, all for an empty one."""
        with toasts():
            async with self.connection.client(request) as client:
                return {self.screen.past: await actions.listed(client, value.conversation, search=text)}

    async def on_pick(self, text: str, event: gr.EventData, request: gr.Request) -> Update:
        """Show the conversation that was clicked; what was searched for stays listed."""
        with toasts():
            async with self.connection.client(request) as client:
                value, live = await self._opened(client, str(event.id))
                listed = await actions.listed(client, value.conversation, search=text)
        return {
            **self.screen.shown(value),
            self.screen.past: listed,
            **self.screen.without_offer(),
            **self.screen.own(),
            **self.screen.busy(False),
            **self._to_follow(live),
        }

    async def _opened(self, client: AsyncClient, conversation: str) -> tuple[Talk, Live | None]:
        """Return a conversation, and the answer that is being written in it."""
        live = await self.answers.find(client, conversation)
        return (live.talk if live else await actions.reopen(client, conversation)), live

    def _to_follow(self, live: Live | None) -> Update:
        """Have the page follow what is being written in the conversation that it shows, if anything is."""
        return {self.screen.follow: str(time.time())} if live else {}

    async def on_shown(self, value: Talk, name: str, request: gr.Request) -> str:
        """Show how full the conversation is that was opened."""
        async with self.connection.client(request) as client:
            return context_use(await actions.counted(client, value, name))

    async def on_version(self, value: Talk, event: gr.EventData, request: gr.Request) -> Update:
        """Show the branch of another version of a message, or more of a long conversation."""
        if event.act == "earlier":
            return self.screen.shown(value.with_earlier())
        if value.conversation is None:
            return unchanged()
        with toasts():
            async with self.connection.client(request) as client:
                other = await actions.reopen(client, value.conversation, str(event.text))
        return {**self.screen.shown(other), **self.screen.without_offer()}

    async def on_new(self, request: gr.Request) -> Update:
        """Begin an empty conversation."""
        with toasts():
            async with self.connection.client(request) as client:
                listed = await actions.listed(client, None)
        return {
            **self.screen.shown(Talk()),
            **self.screen.busy(False),
            self.screen.past: listed,
            **self.screen.without_offer(),
            **self.screen.own(),
        }
