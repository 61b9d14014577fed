"""Ops, Data: import, the newest pairs and demonstrations, raters and snapshots."""

from __future__ import annotations

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.listing import static
from feedback_ui.ops import actions as ops
from feedback_ui.ops.data import actions, jobs_actions, jobs_render, render
from feedback_ui.ops.data.gold import build_gold
from feedback_ui.ops.data.imports_view import build_import
from feedback_ui.ops.data.make_pairs_view import build_make_pairs
from feedback_ui.part import Part, Update, unchanged


def build_data(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    importing = build_import(connection)
    making = build_make_pairs(connection)
    jobs = static(elem_id="ops-jobs")
    pairs = static(elem_id="ops-pairs")
    demonstrations = static(elem_id="ops-demonstrations")
    raters = static(elem_id="ops-raters")
    gold = build_gold(connection)
    snapshots = static(elem_id="ops-snapshots")

    async def refresh(
        for_rows: str | None, for_gold: str | None, for_made: str | None, request: gr.Request
    ) -> Update:
        """Show the newest rows; a deployment that is chosen in a form stays chosen while it exists."""
        with toasts():
            async with connection.client(request) as client:
                if not await ops.may_operate(client):
                    return unchanged()
                held = await actions.holdings(client)
                newest = await jobs_actions.recent(client)

        def choices(chosen: str | None) -> gr.Dropdown:
            offered = [(texts.DATA_EVERY, ""), *((name, name) for name in held.deployments)]
            return gr.Dropdown(offered, value=chosen if chosen in held.deployments else "")

        return {
            jobs: jobs_render.jobs(newest),
            pairs: render.pairs(held),
            demonstrations: render.demonstrations(held),
            raters: render.raters(held),
            snapshots: render.snapshots(held),
            importing.deployment: choices(for_rows),
            gold.deployment: choices(for_gold),
            making.deployment: gr.Dropdown(
                held.deployments,
                value=for_made if for_made in held.deployments else next(iter(held.deployments), None),
            ),
        }

    chosen = [importing.deployment, gold.deployment, making.deployment]
    screen = [jobs, pairs, demonstrations, raters, snapshots, *chosen]
    for form in (importing, gold, making):
        form.done.then(refresh, chosen, screen, show_progress="hidden", api_visibility="private")
    return Part(refresh, screen, chosen)
