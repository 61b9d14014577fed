"""Failures of the platform, as sentences for people. The one seam between `ApiError` and Gradio's toasts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from feedback_ui import texts
from feedback_ui.html import esc
from trimtab_client import ApiError, PlatformUnreachable

log = logging.getLogger(__name__)


def explain(error: Exception) -> str:
    """Explain a failure as HTML-safe text for a toast: toasts render HTML, and messages may quote what people wrote.

    What is no `ApiError` is a fault of the screens: it is logged, and what the person wrote is not repeated.
    """
    if isinstance(error, ApiError):
        return esc(sentence(error))
    log.error("an event of the screens failed", exc_info=error)
    return esc(texts.UNEXPECTED.format(kind=type(error).__name__))


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
    """Turn a failure inside into a toast; the event that raised it changes nothing on the screen."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(explain(error), title=texts.FAILED, duration=8, print_exception=False) from error
