"""Why an answer did not come, in words, with what to do about it; and how full a conversation is."""

from __future__ import annotations

from typing import Any

from feedback_ui import texts
from feedback_ui.errors import explain
from feedback_ui.html import esc, number
from trimtab_client import ApiError, PlatformUnreachable

_CONTEXT = "maximum context length"
"""In vLLM's words where a conversation is longer than the model can read."""
ALMOST_FULL = 0.8


def reason(error: Exception) -> str:
    """Return a failure of an answer as HTML-safe text: what is wrong, then what to do."""
    said = explain(error)
    advice = _advice(error) if isinstance(error, ApiError) else ""
    return f"{said} {esc(advice)}".strip() if advice else said


def _advice(error: ApiError) -> str:
    if isinstance(error, PlatformUnreachable):
        return ""
    if _CONTEXT in error.detail:
        return texts.CHAT_WHY_FULL
    if error.title == "insufficient_quota":
        return texts.CHAT_WHY_QUOTA
    if error.status == 429:
        return texts.CHAT_WHY_LIMIT
    if error.status in (502, 504):
        return texts.CHAT_WHY_ENGINE
    return ""


def context_use(counted: dict[str, Any] | None) -> str:
    """Render how much of the model's context a conversation fills, from an answer of `/tokenize`; nothing without one."""
    count, longest = (counted or {}).get("count"), (counted or {}).get("max_model_len")
    if not isinstance(count, int) or not isinstance(longest, int) or longest <= 0:
        return ""
    share = min(count / longest, 1.0)
    text = texts.CHAT_USE.format(number(count), number(longest), f"{share:.0%}")
    full = share >= ALMOST_FULL
    advice = f" <b>{esc(texts.CHAT_USE_FULL)}</b>" if full else ""
    tone = "tt-use tt-use-full" if full else "tt-use"
    return (
        f'<div class="{tone}"><span class="tt-use-bar" aria-hidden="true"><i style="width:{share:.1%}"></i></span>'
        f"<span>{esc(text)}{advice}</span></div>"
    )
