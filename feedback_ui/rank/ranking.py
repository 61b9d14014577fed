"""The handlers of the Rank screen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat.actions import sampling as sampling_fields
from feedback_ui.connection import Connection
from feedback_ui.errors import explain, toasts
from feedback_ui.html import esc
from feedback_ui.part import Update
from feedback_ui.rank import actions, differences, render
from feedback_ui.rank.actions import Prompt, Table
from feedback_ui.rank.pair import UNSAFE
from feedback_ui.rank.screen import RankScreen
from trimtab_client import ApiError, AsyncClient
from trimtab_client.values import Choice


class Ranking:
    """Handlers that draw, sample, vote, take votes back, skip and go on."""

    def __init__(self, screen: RankScreen, connection: Connection) -> None:
        self.screen, self.connection = screen, connection

    async def on_open(self, request: gr.Request) -> Update:
        """Show the deployments, how many comparisons wait, and the first of them: a rater has nothing to press before."""
        with toasts():
            async with self.connection.client(request) as client:
                names = await actions.deployments(client)
                taken = await self._waiting_one(client)
                queue = await actions.waiting(client)
                taken = replace(taken, summary=await actions.summary(client))
        first = names[0] if names else None
        return {
            **(self.screen.laid(taken, queue) if taken.pair else {}),
            self.screen.deployment: gr.Dropdown(names, value=first, visible=len(names) > 1),
            self.screen.table_state: taken,
            self.screen.tally: render.tally(taken, queue),
        }

    async def _waiting_one(self, client: AsyncClient) -> Table:
        """Take a comparison that waits, if the role allows that; the page says itself what it does not."""
        try:
            return await actions.take_next(client, Table())
        except ApiError as error:
            if error.status != 403:
                raise
            return Table()

    def on_view(self, view: str, table: Table) -> Update:
        """Show the responses in another way."""
        return self.screen.shown(table, view)

    def on_written(self, text: str, table: Table) -> str:
        """Show what a rater's own response changes of the one that it is closest to."""
        if not text.strip() or table.pair is None:
            return ""
        before = differences.closest(
            text, [answer for answer in (table.pair.a, table.pair.b) if answer.strip()] or [""]
        )
        return f"<h3>{esc(texts.RANK_CHANGES)}</h3>{differences.changed(before, text)}"

    async def on_draw(self, request: gr.Request) -> Update:
        """Draw a prompt into the box."""
        with toasts():
            async with self.connection.client(request) as client:
                return self.screen.prompted(await actions.draw(client))

    async def on_sample(
        self,
        text: str,
        drawn: Prompt,
        own: str,
        why: list[str],
        comment: str,
        name: str,
        table: Table,
        heat: str,
        longest: str,
        request: gr.Request,
    ) -> AsyncIterator[Update]:
        """Sample two responses to the text in the box."""
        if not text.strip():
            gr.Warning(texts.RANK_NO_PROMPT)
            yield {}
            return
        # Earlier messages belong to the prompt that was drawn, not to one typed afterwards.
        asked_for = drawn if text.strip() == drawn.text.strip() else Prompt(text=text)
        clear = self.screen.emptied(own, why, comment)
        async for update in self._laid_out(asked_for, clear, name, table, (heat, longest), request):
            yield update

    async def _laid_out(
        self,
        wanted: Prompt,
        clear: Update,
        name: str,
        table: Table,
        fields: tuple[str, str],
        request: gr.Request,
    ) -> AsyncIterator[Update]:
        screen = self.screen
        yield {**screen.sampling(), **screen.prompted(wanted)}
        try:
            async with self.connection.client(request) as client:
                made = await actions.sample(client, wanted, name, table, sampling_fields(*fields))
                queue = await actions.waiting(client)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield screen.laid(table)
            return
        yield {**screen.laid(made, queue), **clear, **screen.prompted(Prompt())}

    async def on_next(
        self,
        own: str,
        why: list[str],
        comment: str,
        name: str,
        table: Table,
        heat: str,
        longest: str,
        request: gr.Request,
    ) -> AsyncIterator[Update]:
        """Take the next waiting comparison; with none waiting, draw a prompt and sample it."""
        try:
            async with self.connection.client(request) as client:
                taken = await actions.take_next(client, table)
                queue = await actions.waiting(client)
                drawn = Prompt() if taken.pair else await actions.draw(client)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield {}
            return
        clear = self.screen.emptied(own, why, comment)
        if taken.pair:
            yield {**self.screen.laid(taken, queue), **clear}
            return
        async for update in self._laid_out(drawn, clear, name, table.passed(), (heat, longest), request):
            yield update

    async def on_ahead(self, name: str, table: Table, heat: str, longest: str, request: gr.Request) -> None:
        """Have the next comparison sampled meanwhile; what fails here is said where the rater asks for the next one."""
        with contextlib.suppress(Exception):
            async with self.connection.client(request) as client:
                await actions.prepare(client, name, table, sampling_fields(heat, longest))

    def voter(self, choice: Choice) -> Callable:
        """Return the handler of a verdict's button."""

        async def on_vote(
            table: Table,
            text: str,
            why: list[str],
            comment: str,
            strength: str,
            a: list[str],
            b: list[str],
            request: gr.Request,
        ) -> Update:
            """Record the verdict and reveal."""
            ticked = {"a": a or [], "b": b or []}
            said = actions.Said(
                better=text or "",
                tags=tuple(why or ()),
                strength=strength or "",
                reasons={side: [one for one in of if one != UNSAFE] for side, of in ticked.items()},
                comment=comment or "",
                unsafe=tuple(side for side, of in ticked.items() if UNSAFE in of),
            )
            with toasts():
                async with self.connection.client(request) as client:
                    decided = await actions.vote(client, table, choice, said)
                    queue = await actions.waiting(client)
            return self.screen.laid(decided, queue)

        return on_vote

    async def on_undo(self, table: Table, request: gr.Request) -> Update:
        """Take the last vote back."""
        with toasts():
            async with self.connection.client(request) as client:
                again = await actions.undo(client, table)
                queue = await actions.waiting(client)
        return self.screen.laid(again, queue)

    async def on_reopen(self, table: Table, event: gr.EventData, request: gr.Request) -> Update:
        """Take back a vote that was picked from the rater's own, and show its comparison."""
        with toasts():
            async with self.connection.client(request) as client:
                again = await actions.undo(client, table, str(event.id))
                queue = await actions.waiting(client)
                rows = await actions.history(client)
        return {**self.screen.laid(again, queue), self.screen.cast: render.history(rows)}

    async def on_history(self, request: gr.Request) -> str:
        """Show the rater's own votes."""
        with toasts():
            async with self.connection.client(request) as client:
                return render.history(await actions.history(client))

    async def on_skip(
        self,
        own: str,
        why: list[str],
        comment: str,
        name: str,
        table: Table,
        heat: str,
        longest: str,
        event: gr.EventData,
        request: gr.Request,
    ) -> AsyncIterator[Update]:
        """Leave this comparison undecided for the reason that was picked, and go on."""
        with toasts():
            async with self.connection.client(request) as client:
                await actions.skip(client, table, str(event.id))
        gr.Info(texts.RANK_SKIPPED.format(reason=esc(event.id)), duration=4)
        async for update in self.on_next(own, why, comment, name, table, heat, longest, request):
            yield update
