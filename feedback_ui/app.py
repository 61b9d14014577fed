"""Builds the three screens and mounts them on the platform's application."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request

from feedback_ui import texts
from feedback_ui.chat.view import build_chat
from feedback_ui.connection import Connection
from feedback_ui.content_policy import ContentPolicy
from feedback_ui.ops.view import build_ops
from feedback_ui.rank.view import build_rank
from feedback_ui.theme import FAVICON, css, head, theme

# Events that one process answers at the same time: streams mostly wait for the engine.
_CONCURRENCY = 256

# What was uploaded, and refused rows that were offered, hold what people said: after a day they go.
_SWEEP_S, _KEPT_S = 3600, 86_400
_LARGEST_UPLOAD = "1gb"


def build(base_url: str | Callable[[], str]) -> gr.Blocks:
    """Build the screens as clients of the platform at `base_url`: Chat at `/`, Rank at `/rank`, Ops at `/ops`.

    `base_url` may be a function, asked at each event, for a platform that learns its port late. Nothing is
    requested before a browser opens a page.
    """
    connection = Connection(base_url)
    with gr.Blocks(
        title=texts.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(_SWEEP_S, _KEPT_S)
    ) as demo:
        build_chat(demo, connection)
    with demo.route("Rank", "/rank"):
        build_rank(demo, connection)
    with demo.route("Ops", "/ops"):
        build_ops(demo, connection)
    demo.queue(default_concurrency_limit=_CONCURRENCY, max_size=None)
    return demo


def mount(
    app: FastAPI,
    base_url: str | Callable[[], str],
    auth_dependency: Callable[[Request], str | Awaitable[str | None] | None] | None = None,
) -> FastAPI:
    """Mount the screens at `/` of `app`; routes that `app` has already go first. Returns `app`.

    `auth_dependency` names the person of a request, or None to refuse it (401); leave it out where the application
    guards the pages itself. No analytics, no run history, no footer, no request to any other host: every response of
    `app` carries a Content-Security-Policy that says so.
    """
    app.add_middleware(ContentPolicy)
    settings: dict[str, Any] = {} if auth_dependency is None else {"auth_dependency": auth_dependency}
    with warnings.catch_warnings():
        # Gradio warns that server-side rendering is impossible with several pages even where it is switched off.
        warnings.filterwarnings("ignore", message="SSR mode is not supported")
        return gr.mount_gradio_app(
            app,
            build(base_url),
            path="/",
            theme=theme(),
            css=css(),
            head=head(),
            favicon_path=str(FAVICON),
            run_history=False,
            footer_links=[],
            show_error=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=_LARGEST_UPLOAD,
            **settings,
        )
