"""The Ops screen: seven tabs over one loader. A tab asks the platform only while it is open."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.frame.view import build_frame, wire_frame
from feedback_ui.ops.access.view import build_access
from feedback_ui.ops.audit.view import build_audit
from feedback_ui.ops.curate.view import build_curate
from feedback_ui.ops.data.view import build_data
from feedback_ui.ops.overview.view import build_overview
from feedback_ui.ops.releases.view import build_releases
from feedback_ui.ops.training.view import build_training

_BUILDERS = (
    build_overview,
    build_training,
    build_releases,
    build_data,
    build_curate,
    build_access,
    build_audit,
)
# Seconds between looks at the platform; the other tabs change only by what is done in them.
_EVERY_S = {"Overview": 4.0, "Training": 2.0}


def build_ops(demo: gr.Blocks, connection: Connection) -> None:
    """Lay out and wire the Ops screen on the current page."""
    frame = build_frame("ops")
    with gr.Column(elem_classes="tt-page") as body, gr.Tabs(elem_id="ops-tabs"):
        opened = []
        for title, build in zip(texts.TABS, _BUILDERS, strict=True):
            with gr.Tab(title, elem_id=f"ops-tab-{title.lower()}") as tab:
                opened.append((title, tab, build(connection)))
    wire_frame(demo, frame, body, connection)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    timers = {title: gr.Timer(every, active=title == "Overview") for title, every in _EVERY_S.items()}

    def only(title: str) -> Callable[[], list[gr.Timer]]:
        def switch() -> list[gr.Timer]:
            """Let only the open tab's clock run."""
            return [gr.Timer(active=name == title) for name in timers]

        return switch

    for title, tab, part in opened:
        tab.select(part.refresh, part.inputs, part.outputs, **quiet)
        tab.select(only(title), None, list(timers.values()), queue=False, **quiet)
        if title in timers:
            timers[title].tick(part.refresh, part.inputs, part.outputs, **quiet)
    first = opened[0][2]
    demo.load(first.refresh, first.inputs, first.outputs, **quiet)
