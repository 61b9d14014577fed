"""The panel of the run that is watched: progress, plots, cancel and resume, and the table of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.listing import static
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.training import actions, render
from feedback_ui.ops.training.actions import Followed
from feedback_ui.part import Update


@dataclass(frozen=True)
class WatchPanel:
    """The components of the panel."""

    progress: gr.HTML
    loss: gr.LinePlot
    margin: gr.LinePlot
    cancel: gr.Button
    resume: gr.Button

    def outputs(self) -> list[Any]:
        """Return all components."""
        return [self.progress, self.loss, self.margin, self.cancel, self.resume]

    def show(self, followed: Followed | None) -> Update:
        """Return values that show a run, without its plots."""
        return {
            self.progress: render.progress(followed),
            self.cancel: gr.Button(visible=bool(followed and followed.working)),
            self.resume: gr.Button(visible=bool(followed and followed.resumable)),
        }

    def plot(self, rows: list[dict[str, Any]]) -> Update:
        """Return values that draw a run's metrics."""
        losses, found = actions.curve(rows, "loss")
        margins, name = actions.curve(rows, "rewards/margins", "mean_token_accuracy")
        second = texts.ACCURACY_PLOT if name == "mean_token_accuracy" else texts.MARGIN_PLOT
        return {
            self.loss: gr.LinePlot(losses, visible=found is not None),
            self.margin: gr.LinePlot(margins, label=second, visible=name is not None),
        }


def build_watch() -> WatchPanel:
    """Lay out the panel."""
    progress = static(elem_id="run-progress")
    with gr.Row(elem_classes="tt-plots"):
        loss = _plot(texts.LOSS_PLOT, "plot-loss")
        margin = _plot(texts.MARGIN_PLOT, "plot-margin")
    with gr.Row(elem_classes="tt-actions"):
        cancel = gr.Button(
            texts.TRAIN_CANCEL, variant="stop", visible=False, elem_id="run-cancel", min_width=140, scale=0
        )
        resume = gr.Button(texts.TRAIN_RESUME, visible=False, elem_id="run-resume", min_width=140, scale=0)
    static(command_lines(run_cancel=texts.TRAIN_CANCEL, run_resume=texts.TRAIN_RESUME))
    return WatchPanel(progress, loss, margin, cancel, resume)


def _plot(label: str, elem_id: str) -> gr.LinePlot:
    return gr.LinePlot(
        x="step", y="value", label=label, height=210, buttons=[], elem_id=elem_id, x_title="step", y_title=" ",
        min_width=240, visible=False,
    )  # fmt: skip
