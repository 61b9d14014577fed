"""The handlers of Chat that get answers: send, retry, edit, examples, stop, two answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import gradio as gr

from feedback_ui import dialogue, texts
from feedback_ui.chat import actions
from feedback_ui.chat.actions import Progress
from feedback_ui.chat.live import Live, LiveAnswers
from feedback_ui.chat.reasons import context_use, reason
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk, message_index
from feedback_ui.errors import explain, toasts
from feedback_ui.part import Update, unchanged
from trimtab_client import ApiError, AsyncClient


class Answering:
    """Handlers that stream into the conversation."""

    def __init__(self, screen: ChatScreen, connection: Connection, answers: LiveAnswers) -> None:
        self.screen, self.connection, self.answers = screen, connection, answers

    async def respond(
        self,
        value: Talk,
        name: str,
        heat: str,
        longest: str,
        request: gr.Request,
        before: Talk | None = None,
        begun: str = "",
    ) -> AsyncIterator[Update]:
        """Stream the answer to a conversation that ends with the person's message; one that has `begun` is continued.

        `before` is shown again where nothing is answered: a conversation that has an answer in this place already.
        """
        value = value.named()
        yield self._begun(value)
        try:
            async with self.connection.client(request) as client:
                if await self.answers.is_busy(client, value.conversation):
                    raise ApiError(409, "busy", texts.CHAT_STILL_ANSWERING)
                options = actions.sampling(heat, longest)
                name = name or await actions.default_model(client)
                if not begun and (two := await actions.offered(client, value, name, options)):
                    latest, made = two
                    latest.thumbs.due()
                    yield {**self.screen.shown(latest), **self.screen.put_up(made)}
                    return

                def steps(client: AsyncClient) -> AsyncIterator[Progress]:
                    return actions.answer(client, value, name, options, begun)

                live = await self.answers.start(client, value, request, before, steps)
        except Exception as error:
            gr.Warning(reason(error), title=texts.FAILED, duration=12)
            yield self._given_back(value, before)
            return
        async for update in self._followed(live):
            yield update

    async def on_follow(self, value: Talk, request: gr.Request) -> AsyncIterator[Update]:
        """Show an answer that is still being written in the conversation that was opened."""
        async with self.connection.client(request) as client:
            live = await self.answers.find(client, value.conversation)
        if live is None:
            yield {}
            return
        yield self._begun(live.talk)
        async for update in self._followed(live):
            yield update

    async def _followed(self, live: Live) -> AsyncIterator[Update]:
        """Show an answer as it is written, to its end."""
        try:
            async for progress in live.follow():
                yield self._progressed(progress)
            yield {**self.screen.shown(live.talk.settled()), self.screen.notice: ""}
        except Exception as error:
            gr.Warning(reason(error), title=texts.FAILED, duration=12)
            self.answers.forget(live)
            nothing = live.talk is live.asked
            yield self._given_back(live.talk.settled(), live.before if nothing else None)

    def _begun(self, value: Talk) -> Update:
        """Show that an answer is being written, and name its conversation in the address."""
        screen = self.screen
        if not value.turns or value.turns[-1].done:
            value.thumbs.begin(len(value.turns))
        bubbles = value.awaiting(texts.CHAT_WAITING) if value.turns[-1].done else value.bubbles()
        return {
            screen.talk: value,
            screen.chatbot: bubbles,
            screen.pair: None,
            screen.mark: value.conversation,
            **screen.busy(True),
            **screen.without_offer(),
        }

    async def after_answer(self, value: Talk, name: str, request: gr.Request) -> Update:
        """Rate the answer if its thumb came early, list the conversation, and show how full it is.

        An event of its own: while an answer's event runs, Gradio ignores the next message, and the platform needs up to
        two seconds to record an answer.
        """
        try:
            async with self.connection.client(request) as client:
                await actions.rate_late(client, value, value.thumbs.due())
                use = context_use(await actions.counted(client, value, name))
                listed = await actions.listed_with(client, value.conversation if value.turns else None)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            return unchanged()
        return {self.screen.past: listed, self.screen.use: use}

    def _progressed(self, progress: Progress) -> Update:
        """Show a step of an answer, or what it waits for."""
        waiting = progress.waiting
        if waiting is None:
            return self.screen.streaming(progress.talk)
        bubbles = progress.talk.awaiting(texts.ENGINE_WAITING)
        return {self.screen.chatbot: bubbles, self.screen.notice: dialogue.readiness(waiting)}

    def _given_back(self, kept: Talk, before: Talk | None) -> Update:
        """Put a message that got no answer back into the box, or show what there was before."""
        kept.thumbs.due()
        if before is not None:
            return self.screen.shown(before)
        # One that carries more than text stays: the box would take that from it.
        unanswered = bool(kept.turns) and kept.turns[-1].role == "user" and not kept.turns[-1].carried
        text = kept.turns[-1].content if unanswered else ""
        if unanswered:
            kept = replace(kept, turns=kept.turns[:-1])
        if not kept.turns:
            kept = Talk()
        return {**self.screen.shown(kept), self.screen.box: text}

    async def on_send(
        self, text: str, value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Answer the message in the box."""
        if not text.strip():
            gr.Warning(texts.CHAT_NOTHING_TO_SEND)
            yield self.screen.busy(False)
            return
        yield {self.screen.box: ""}
        said = value.settled().said(text.strip())
        async for update in self.respond(said, name, heat, longest, request):
            yield update

    async def on_retry(
        self, value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Answer once more."""
        # The arrow is below the last answer alone.
        before = value.settled()
        async for update in self.respond(before.unanswered(), name, heat, longest, request, before):
            yield update

    async def on_edit(
        self, value: Talk, name: str, heat: str, longest: str, event: gr.EditData, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Answer a message that the person has reworded."""
        at = value.turn_at(message_index(event.index))
        reworded = value.reworded(at, str(event.value))
        async for update in self.respond(reworded, name, heat, longest, request):
            yield update

    async def on_continue(
        self, value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Continue the answer at the end, which was cut."""
        last = value.turns[-1] if value.turns else None
        if last is None or not last.is_cut:
            yield self.screen.busy(False)
            return
        name = actions.continued_by(last, name)
        more = value.continuing()
        async for update in self.respond(more, name, heat, longest, request, value, last.content):
            yield update

    async def on_example(
        self, value: Talk, name: str, heat: str, longest: str, event: gr.SelectData, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Answer an example."""
        said = value.said(event.value["text"])
        async for update in self.respond(said, name, heat, longest, request):
            yield update

    async def on_stopped(self, value: Talk, request: gr.Request) -> Update:
        """Keep what was written until the stop."""
        with toasts():
            async with self.connection.client(request) as client:
                await self.answers.stop(client, value.conversation)
        return {**self.screen.shown(value.settled()), **self.screen.busy(False)}

    async def after_stop(self, value: Talk, request: gr.Request) -> None:
        """Rate the stopped answer: an event of its own, for the answer ends, and is recorded, after `on_stopped`."""
        try:
            async with self.connection.client(request) as client:
                await actions.rate_late(client, value, value.thumbs.due())
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)

    async def on_compare(
        self, text: str, value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Ask for two blind answers to the message in the box, else to the last one."""
        screen = self.screen
        asked = value.said(text.strip()) if text.strip() else value.unanswered()
        if not asked.turns:
            gr.Warning(texts.CHAT_NOTHING_TO_SEND)
            yield screen.busy(False)
            return
        sampling = {screen.talk: asked, screen.chatbot: asked.awaiting(texts.CHAT_SAMPLING_TWO)}
        yield {**sampling, **screen.busy(True), screen.box: "", **screen.without_offer()}
        try:
            async with self.connection.client(request) as client:
                options = actions.sampling(heat, longest)
                name = name or await actions.default_model(client)
                made = await actions.two_answers(client, asked, name, options)
        except Exception as error:
            gr.Warning(reason(error), title=texts.FAILED, duration=12)
            yield {**screen.shown(value), **screen.busy(False), screen.box: text}
            return
        yield {**screen.shown(asked), **screen.put_up(made)}
