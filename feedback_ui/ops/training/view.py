"""Ops, Training: the Retrain form, the run that is watched, and all runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.listing import pickable
from feedback_ui.ops import actions as ops
from feedback_ui.ops.training import actions, render
from feedback_ui.ops.training.form import RetrainForm, build_form
from feedback_ui.ops.training.overlay import build_overlay
from feedback_ui.ops.training.watch import WatchPanel, build_watch
from feedback_ui.part import Part, Update, unchanged
from trimtab_client import AsyncClient

QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def build_training(connection: Connection) -> Part:
    """Lay out and wire the tab; return how to refresh it."""
    watched = gr.State(None)
    with gr.Row(elem_classes="tt-columns"):
        with gr.Column(scale=2, min_width=320), gr.Group(elem_classes="tt-form"):
            form = build_form()
        with gr.Column(scale=3, min_width=340, elem_classes="tt-watch"):
            panel = build_watch()
    table = pickable(elem_id="ops-runs")
    overlaid = build_overlay(connection)
    drawn = gr.State(None)
    tab = _Training(connection, form, panel, table, overlaid, watched, drawn)
    tab.wire()
    fields = form.fields
    return Part(tab.refresh, tab.screen, [fields.deployment, watched, drawn])


class _Training:
    """The handlers of the tab."""

    def __init__(
        self,
        connection: Connection,
        form: RetrainForm,
        panel: WatchPanel,
        table: gr.HTML,
        overlaid: gr.Dropdown,
        watched: gr.State,
        drawn: gr.State,
    ) -> None:
        self.connection, self.form, self.fields, self.panel = connection, form, form.fields, panel
        self.table, self.overlaid, self.watched, self.drawn = table, overlaid, watched, drawn
        self.screen = [
            *panel.outputs(),
            table,
            overlaid,
            self.fields.deployment,
            self.fields.recipe,
            drawn,
            watched,
        ]

    def wire(self) -> None:
        """Connect the events."""
        form, fields, panel, screen = self.form, self.fields, self.panel, self.screen
        picked = [fields.deployment, self.watched]
        started = [*screen, form.planned]
        form.start.click(self.on_start, fields.inputs(), started, api_name="retrain", show_progress="hidden")
        form.plan.click(
            self.on_plan, fields.inputs(), [form.planned], show_progress="minimal", api_visibility="private"
        )
        self.table.click(self.on_pick, [fields.deployment], screen, **QUIET)
        panel.cancel.click(self.on_cancel, picked, screen, **QUIET)
        panel.resume.click(self.on_resume, picked, screen, **QUIET)
        fields.method.change(self.on_method, [fields.method], [fields.recipe, fields.beta], **QUIET)

    async def refresh(
        self, name: str | None, picked: str | None, before: tuple | None, request: gr.Request
    ) -> Update:
        """Show the watched run (the newest until one is picked), its plots, and the table of runs."""
        with toasts():
            async with self.connection.client(request) as client:
                if not await ops.may_operate(client):
                    return unchanged()
                followed = await actions.follow(client, picked)
                runs = await client.runs.list(limit=30)
                names = [row["name"] for row in await client.rollout.deployments()]
        shown = name if name in names else next(iter(names), None)
        update = self.panel.show(followed)
        update[self.table] = render.runs(runs, followed.run["id"] if followed else None)
        if name != shown or name is None:
            update[self.fields.deployment] = gr.Dropdown(names, value=shown)
            update[self.fields.recipe] = await self.recipes("dpo", request)
        # A plot is redrawn only when it has a new point: redrawing each tick would flicker.
        mark = (followed.run["id"], len(followed.rows)) if followed else None
        if mark != before:
            update |= self.panel.plot(followed.rows if followed else []) | {self.drawn: mark}
            update[self.overlaid] = gr.Dropdown([row["id"] for row in runs])
        return update

    async def recipes(self, method: str, request: gr.Request) -> gr.Dropdown:
        """Offer the recipes of a method."""
        async with self.connection.client(request) as client:
            choices = await actions.recipes(client, method)
        return gr.Dropdown([(texts.TRAIN_RECIPE_NONE, ""), *choices], value="")

    async def on_method(self, method: str, request: gr.Request) -> Update:
        """Offer the method's recipes and fields."""
        with toasts():
            offered = await self.recipes(method, request)
        return {self.fields.recipe: offered, self.fields.beta: gr.Textbox(visible=method != "sft")}

    async def on_start(self, filled: dict, request: gr.Request) -> Update:
        """Queue the run that the form describes and watch it."""
        with toasts():
            wanted = self.fields.request(filled)
            async with self.connection.client(request) as client:
                run = await actions.start(client, wanted)
        gr.Info(texts.TRAIN_QUEUED.format(id=run["id"]))
        shown = await self.refresh(filled[self.fields.deployment], run["id"], None, request)
        return {**shown, self.watched: run["id"], self.form.planned: ""}

    async def on_plan(self, filled: dict, request: gr.Request) -> Update:
        """Show the memory and time that the run would need."""
        with toasts():
            wanted = self.fields.request(filled)
            async with self.connection.client(request) as client:
                return {self.form.planned: render.plan(await actions.plan(client, wanted))}

    async def on_pick(self, name: str | None, event: gr.EventData, request: gr.Request) -> Update:
        """Watch the run that was clicked."""
        shown = await self.refresh(name, str(event.id), None, request)
        return {**shown, self.watched: str(event.id)}

    async def on_cancel(self, name: str | None, picked: str | None, request: gr.Request) -> Update:
        """Cancel the watched run."""
        return await self._change(actions.cancel, name, picked, request)

    async def on_resume(self, name: str | None, picked: str | None, request: gr.Request) -> Update:
        """Resume the watched run."""
        return await self._change(actions.resume, name, picked, request)

    async def _change(
        self,
        change: Callable[[AsyncClient, str], Awaitable[Any]],
        name: str | None,
        picked: str | None,
        request: gr.Request,
    ) -> Update:
        with toasts():
            async with self.connection.client(request) as client:
                if followed := await actions.follow(client, picked):
                    await change(client, followed.run["id"])
        return await self.refresh(name, picked, None, request)
