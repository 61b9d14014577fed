"""Several runs in one plot: the same figure of each, by step."""

from __future__ import annotations

import gradio as gr
import pandas as pd

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import empty, form_head
from feedback_ui.listing import static
from feedback_ui.ops.training.actions import curve
from feedback_ui.part import Update
from trimtab_client import AsyncClient

MOST = 6


def build_overlay(connection: Connection) -> gr.Dropdown:
    """Lay out and wire the plot; return the field whose choices are the runs."""
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.OVERLAY))
        with gr.Row():
            chosen = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                max_choices=MOST,
                label=texts.OVERLAY_RUNS,
                info=texts.OVERLAY_RUNS_INFO.format(most=MOST),
                elem_id="overlay-runs",
            )
            metric = gr.Dropdown(
                list(texts.OVERLAY_METRICS),
                value="loss",
                label=texts.OVERLAY_METRIC,
                elem_id="overlay-metric",
                min_width=160,
            )
        plot = gr.LinePlot(
            x="step", y="value", color="run", height=320, buttons=[], elem_id="plot-overlay", x_title="step",
            y_title=" ", visible=False, show_label=False,
        )  # fmt: skip
        nothing = static(empty(texts.OVERLAY_NONE), visible=False, elem_id="overlay-none")

    async def draw(runs: list[str], name: str, request: gr.Request) -> Update:
        """Draw the figure of the chosen runs."""
        with toasts():
            async with connection.client(request) as client:
                points = await overlaid(client, runs[:MOST], name)
        return {
            plot: gr.LinePlot(points, visible=not points.empty),
            nothing: gr.HTML(visible=bool(runs) and points.empty),
        }

    for field in (chosen, metric):
        field.change(
            draw,
            [chosen, metric],
            [plot, nothing],
            show_progress="hidden",
            api_visibility="private",
            trigger_mode="always_last",
        )
    return chosen


async def overlaid(client: AsyncClient, runs: list[str], metric: str) -> pd.DataFrame:
    """Return the points (step, value, run) of a figure of several runs."""
    parts = [curve(await client.runs.metrics(run), metric)[0].assign(run=run) for run in runs]
    return pd.concat(parts) if parts else pd.DataFrame({"step": [], "value": [], "run": []})
