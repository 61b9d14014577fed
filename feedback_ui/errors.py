"""Failures of the platform, as sentences for people. The one seam between `ApiError` and Gradio's toasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from feedback_ui import texts
from feedback_ui.html import esc
from trimtab_client.client import ApiError, PlatformUnreachable


def explain(error: ApiError) -> str:
    """Explain a failure as HTML-safe text for a toast: toasts render HTML, and messages may quote what people wrote."""
    return esc(sentence(error))


def sentence(error: ApiError) -> str:
    """Say what went wrong and, where the platform named them, which field and what it accepts."""
    if isinstance(error, PlatformUnreachable):
        return texts.UNREACHABLE
    if error.status == 401:
        return texts.SIGN_IN
    if error.status == 403:
        return error.detail or texts.NOT_ALLOWED
    text = (error.detail or error.title).strip().rstrip(".")
    if error.field and error.field not in text:
        text = f"{error.field}: {text}"
    if error.accepted:
        accepted = error.accepted
        shown = ", ".join(map(str, accepted)) if isinstance(accepted, list | tuple) else str(accepted)
        if shown not in text:
            text = f"{text}. Accepted: {shown}"
    return f"{text}."


@contextmanager
def toasts() -> Iterator[None]:
    """Turn an `ApiError` inside into a toast; the event that raised it changes nothing on the screen."""
    try:
        yield
    except ApiError as error:
        raise gr.Error(explain(error), title=texts.FAILED, duration=8, print_exception=False) from error
