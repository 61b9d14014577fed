"""Two blind responses side by side and the four verdicts; Rank and Chat share them."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from feedback_ui import texts
from feedback_ui.bubbles import response
from feedback_ui.chat.actions import Candidates
from feedback_ui.listing import static
from feedback_ui.part import Update
from trimtab_client.values import Choice

_ORDER: tuple[Choice, ...] = ("a", "tie", "both_bad", "b")
"""A on the left and B on the right, as the texts lie."""


@dataclass(frozen=True)
class PairPanel:
    """The components of a pair: both texts and a button for each verdict, keyed a, b, tie, both_bad."""

    a: gr.HTML
    b: gr.HTML
    verdicts: dict[Choice, gr.Button]

    def show(self, pair: Candidates, *, open_to_vote: bool, as_written: bool = False) -> Update:
        """Return the values that show two responses and enable or disable the vote buttons."""
        buttons = {button: gr.Button(interactive=open_to_vote) for button in self.verdicts.values()}
        return {**self.texts(pair, as_written=as_written), **buttons}

    def texts(self, pair: Candidates, *, as_written: bool) -> Update:
        """Return the values that show two responses, as Markdown or as they were written.

        Thinking is folded, so that final answers are compared, unless the operator has whole responses compared. A fold
        belongs to its comparison: one that was opened says nothing about the next.
        """
        return {
            pane: response(
                f"{pair.comparison} {side}", text, message, as_written=as_written, unfolded=pair.whole
            )
            for pane, side, text, message in (
                (self.a, "a", pair.a, pair.a_message),
                (self.b, "b", pair.b, pair.b_message),
            )
        }


def build_pair() -> PairPanel:
    """Lay out the two texts; the verdicts are made too and laid out by `lay_verdicts`.

    Nothing here can tell the releases apart: same place, same size, shown together.
    """
    with gr.Row(equal_height=True, elem_classes="tt-pair"):
        panes = []
        for slot in ("a", "b"):
            with gr.Column(elem_classes="tt-response", min_width=280):
                static(f"<h2>Response {slot.upper()}</h2>")
                panes.append(static("", elem_id=f"response-{slot}"))
    verdicts = {
        choice: gr.Button(
            f"{texts.RANK_VOTE[choice]}  ({texts.RANK_KEYS[choice]})",
            elem_id=f"vote-{choice.replace('_', '-')}",
            variant="primary" if choice in ("a", "b") else "secondary",
            min_width=120,
            render=False,
        )
        for choice in _ORDER
    }
    return PairPanel(panes[0], panes[1], verdicts)


def lay_verdicts(panel: PairPanel) -> None:
    """Lay out the four buttons in a row: A on the left, B on the right, as the texts lie."""
    with gr.Row(elem_classes="tt-verdicts"):
        for button in panel.verdicts.values():
            button.render()
