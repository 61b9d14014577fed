"""The handlers of the Rank screen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat.actions import sampling as sampling_fields
from feedback_ui.connection import Connection
from feedback_ui.errors import explain, toasts
from feedback_ui.html import esc, notice
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
                taken = replace(taken, summary=await actions.summary(client), queue=queue)
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
        shown = [answer for answer, _ in table.pair.answers.values() if answer.strip()]
        before = differences.closest(text, shown or [""])
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
            yield {self.screen.table_state: table}
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
            yield screen.laid(replace(table, wanted=None))
            return
        yield {**screen.laid(replace(made, queue=queue), queue), **clear, **screen.prompted(Prompt())}

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
            yield {self.screen.table_state: table}
            return
        clear = self.screen.emptied(own, why, comment)
        if taken.pair:
            yield {**self.screen.laid(taken, queue), **clear}
            return
        async for update in self._laid_out(drawn, clear, name, table.passed(), (heat, longest), request):
            yield update

    async def on_take(
        self, own: str, why: list[str], comment: str, table: Table, request: gr.Request
    ) -> Update:
        """Take the next waiting comparison in one step; with none waiting, draw a prompt for `on_fill` to sample."""
        try:
            async with self.connection.client(request) as client:
                taken, queue = await asyncio.gather(
                    actions.take_next(client, table), actions.queue_of(client, table)
                )
                drawn = Prompt() if taken.pair else await actions.draw(client)
        except Exception as error:
            return self._failed(error)
        if taken.pair:
            taken = replace(taken, queue=queue)
            return {**self.screen.laid(taken, queue), **self.screen.emptied(own, why, comment)}
        wanted = replace(table.passed(), wanted=drawn)
        return {**self.screen.sampling(), **self.screen.prompted(drawn), self.screen.table_state: wanted}

    def _failed(self, error: Exception) -> Update:
        """Say what failed beside the verdicts: events without a queue have no toasts."""
        return {self.screen.outcome: notice(texts.FAILED, "bad", f"<p>{explain(error)}</p>")}

    async def on_fill(
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
        """Sample responses to the prompt that was drawn because no comparison waited; nothing where one did."""
        if table.wanted is None:
            yield {self.screen.table_state: table}
            return
        clear = self.screen.emptied(own, why, comment)
        async for update in self._laid_out(table.wanted, clear, name, table, (heat, longest), request):
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
            c: list[str],
            d: list[str],
            request: gr.Request,
        ) -> Update:
            """Record the verdict and reveal."""
            said = _said(text, why, comment, strength, (a, b, c, d))
            return await self._voted(table, choice, said, None, request)

        return on_vote

    async def on_order(
        self,
        order: str,
        table: Table,
        text: str,
        why: list[str],
        comment: str,
        strength: str,
        a: list[str],
        b: list[str],
        c: list[str],
        d: list[str],
        request: gr.Request,
    ) -> Update:
        """Record the order of several responses and reveal."""
        ranking = actions.ranking_of(order or "", table.pair.answers if table.pair else ())
        if ranking is None:
            return {self.screen.outcome: notice(texts.RANK_ORDER_INCOMPLETE, "warn")}
        said = _said(text, why, comment, strength, (a, b, c, d))
        return await self._voted(table, None, said, ranking, request)

    async def _voted(
        self,
        table: Table,
        choice: Choice | None,
        said: actions.Said,
        ranking: list[list[str]] | None,
        request: gr.Request,
    ) -> Update:
        try:
            async with self.connection.client(request) as client:
                decided = await actions.vote(client, table, choice, said, ranking)
        except Exception as error:
            return self._failed(error)
        # as many as waited before, without the one that is decided: to ask would hold up the rater
        queue = None if table.queue is None else max(0, table.queue - 1)
        return self.screen.decided(replace(decided, queue=queue), queue)

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


def _said(
    text: str, why: list[str], comment: str, strength: str, ticked: tuple[list[str], ...]
) -> actions.Said:
    """Read what a rater says beside a verdict; `ticked` are the boxes of each response."""
    boxes = {side: of or [] for side, of in zip("abcd", ticked, strict=False)}
    return actions.Said(
        better=text or "",
        tags=tuple(why or ()),
        strength=strength or "",
        reasons={side: [one for one in of if one != UNSAFE] for side, of in boxes.items()},
        comment=comment or "",
        unsafe=tuple(side for side, of in boxes.items() if UNSAFE in of),
    )
