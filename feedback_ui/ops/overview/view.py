"""Ops, Overview: figures, engines, deployments and the rollout form."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import form_head
from feedback_ui.listing import picker, static
from feedback_ui.ops import actions
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.overview import render
from feedback_ui.ops.overview.first_steps import first_steps
from feedback_ui.part import Part, Update, unchanged


class _RolloutForm(NamedTuple):
    """The fields and buttons of the rollout form."""

    deployment: gr.Dropdown
    release: gr.Dropdown
    weight: gr.Slider
    reason: gr.Textbox
    canary: gr.Button
    promote: gr.Button
    rollback: gr.Button


def _build_rollout_form() -> _RolloutForm:
    """Lay out the rollout form."""
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.ROLLOUT, texts.ROLLOUT_HINT))
        with gr.Row():
            deployment = picker(texts.ROLLOUT_DEPLOYMENT, "rollout-deployment")
            release = picker(texts.ROLLOUT_RELEASE, "rollout-release")
        weight = gr.Slider(
            1, 100, value=10, step=1, label=f"{texts.ROLLOUT_WEIGHT} (%)", elem_id="rollout-weight"
        )
        reason = gr.Textbox(
            "",
            label=texts.ROLLOUT_REASON,
            info=texts.ROLLOUT_REASON_HINT,
            max_length=2000,
            elem_id="rollout-reason",
        )
        with gr.Row(elem_classes="tt-actions"):
            canary = gr.Button(texts.CANARY, elem_id="rollout-canary", min_width=110)
            promote = gr.Button(texts.PROMOTE, variant="primary", elem_id="rollout-promote", min_width=110)
            rollback = gr.Button(texts.ROLLBACK, variant="stop", elem_id="rollout-rollback", min_width=110)
        buttons = {
            "rollout_canary": texts.CANARY,
            "rollout_promote": texts.PROMOTE,
            "rollout_rollback": texts.ROLLBACK,
        }
        static(command_lines(**buttons))
    return _RolloutForm(deployment, release, weight, reason, canary, promote, rollback)


def build_overview(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    steps = static(elem_id="ops-first-steps")
    tiles = static(elem_id="ops-tiles")
    drawn = gr.State({})
    with gr.Row(elem_classes="tt-columns"):
        with gr.Column(min_width=320):
            deployments = static(elem_id="ops-deployments")
            form = _build_rollout_form()
        with gr.Column(min_width=320):
            engines = static(elem_id="ops-engines")
            schedule = static(elem_id="ops-schedule")
            about = static(elem_id="ops-about")

    async def refresh(name: str | None, chosen: str | None, before: dict, request: gr.Request) -> Update:
        """Show the platform as it is now; what is chosen in the form stays chosen while it exists."""
        with toasts():
            async with connection.client(request) as client:
                if not await actions.may_operate(client):
                    return unchanged()
                status, releases = await actions.overview(client)
                points = await actions.evidence(client, status.get("deployments", []), before)
        names = [row["name"] for row in status.get("deployments", ())]
        name = name if name in names else next(iter(names), None)
        choices = [
            (f"{row['name']} ({row['lane']})" if row.get("lane") else row["name"], row["name"])
            for row in releases
            if row.get("deployment") == name
        ]
        lanes = {row.get("lane"): row["name"] for row in releases if row.get("deployment") == name}
        # Stable needs no rollout: offer the canary, else the newest release, until the operator picks another.
        values = [value for _, value in choices if value != lanes.get("stable")]
        offered = lanes.get("canary") or next(iter(values), lanes.get("stable"))
        return {
            tiles: render.tiles(status),
            engines: render.engines(status.get("engines", [])) + render.cards(status.get("cards", [])),
            deployments: render.deployments(status.get("deployments", []), points),
            drawn: points,
            steps: first_steps(status.get("first_steps", ())),
            schedule: render.schedules(status.get("schedules", [])),
            about: render.about(status),
            form.deployment: gr.Dropdown(names, value=name),
            form.release: gr.Dropdown(choices, value=chosen if chosen in values else offered),
        }

    async def on_canary(name: str, chosen: str, percent: float, why: str, request: gr.Request) -> Update:
        """Start or change a canary."""
        with toasts():
            async with connection.client(request) as client:
                gr.Info(await actions.start_canary(client, name, chosen, percent, why))
        return await refresh(name, chosen, {}, request)

    async def on_promote(name: str, chosen: str, why: str, request: gr.Request) -> Update:
        """Make the chosen release stable."""
        with toasts():
            async with connection.client(request) as client:
                gr.Info(await actions.promote(client, name, chosen, why))
        return await refresh(name, chosen, {}, request)

    async def on_rollback(name: str, chosen: str, request: gr.Request) -> Update:
        """Undo the canary or the last promotion."""
        with toasts():
            async with connection.client(request) as client:
                gr.Info(await actions.rollback(client, name))
        return await refresh(name, chosen, {}, request)

    picked = [form.deployment, form.release]
    looked = [*picked, drawn]
    screen = [steps, tiles, engines, deployments, schedule, about, drawn, *picked]
    staged = [*picked, form.weight, form.reason]
    form.canary.click(on_canary, staged, screen, api_name="canary", show_progress="hidden")
    form.promote.click(on_promote, [*picked, form.reason], screen, api_name="promote", show_progress="hidden")
    form.rollback.click(on_rollback, picked, screen, api_name="rollback", show_progress="hidden")
    form.deployment.input(refresh, looked, screen, show_progress="hidden", api_visibility="private")
    return Part(refresh, screen, looked)
