"""The checklist of the first time through; it is gone once everything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import badge, card, esc, number


def first_steps(steps: Sequence[Mapping[str, Any]]) -> str:
    """Render the steps in their order, the next one with what to do; nothing where all are done."""
    if all(step.get("done") for step in steps):
        return ""
    following = next(step for step in steps if not step.get("done"))
    items = "".join(_step(step, step is following) for step in steps)
    done = sum(bool(step.get("done")) for step in steps)
    count = badge(texts.STEPS_DONE.format(done=done, of=len(steps)))
    return card(texts.STEPS, f'<ol class="tt-steps">{items}</ol>', count)


def _step(step: Mapping[str, Any], following: bool) -> str:
    title, hint, address = texts.STEP_TEXTS.get(str(step.get("name")), (str(step.get("name")), "", ""))
    state = "done" if step.get("done") else "next" if following else "ahead"
    far = f" ({number(step['have'])} of {number(step['wanted'])})" if int(step.get("wanted") or 1) > 1 else ""
    shown = f'<a href="{esc(address)}">{esc(title)}</a>' if address and not step.get("done") else esc(title)
    word = f'<span class="tt-unseen">{esc(texts.STEP_STATES[state])}: </span>'
    return (
        f'<li class="tt-step-{state}"><i aria-hidden="true"></i><div>{word}<b>{shown}{esc(far)}</b>'
        f"<small>{esc(hint)}</small></div></li>"
    )
