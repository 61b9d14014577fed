"""Blind responses side by side and the verdicts; Rank and Chat share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import gradio as gr

from feedback_ui import texts
from feedback_ui.bubbles import response
from feedback_ui.chat.actions import Candidates
from feedback_ui.listing import static
from feedback_ui.part import Update
from feedback_ui.rank import differences
from trimtab_client.values import Choice

_ORDER: tuple[Choice, ...] = ("a", "tie", "both_bad", "b")
"""A on the left and B on the right, as the texts lie."""

UNSAFE = "\N{BLACK FLAG} unsafe"
"""The value of the box that says that an answer is unsafe, beside those of its reasons."""


@dataclass(frozen=True)
class PairPanel:
    """The components of a pair: both texts and a button for each verdict, keyed a, b, tie, both_bad.

    `reasons` are the boxes to tick for each response, where a screen has them.
    """

    a: gr.HTML
    b: gr.HTML
    verdicts: dict[Choice, gr.Button]
    reasons: Mapping[str, gr.CheckboxGroup] = field(default_factory=dict)

    def show(self, pair: Candidates, *, open_to_vote: bool, view: str = "formatted") -> Update:
        """Return the values that show two responses and enable or disable the vote buttons."""
        buttons = {button: gr.Button(interactive=open_to_vote) for button in self.verdicts.values()}
        return {**self.texts(pair, view=view), **buttons}

    def texts(self, pair: Candidates, *, view: str) -> Update:
        """Return the values that show two responses: formatted, plain, by their differences, or cut to the same length.

        Thinking is folded, so that final answers are compared, unless the operator has whole responses compared. A fold
        belongs to its comparison: one that was opened says nothing about the next.
        """
        if view == "differences":
            return {
                self.a: differences.marked(pair.a, pair.b),
                self.b: differences.marked(pair.b, pair.a),
            }
        if view == "same_length":
            length = differences.shortest((pair.a, pair.b))
            return {
                pane: differences.same_length(text, length)
                for pane, text in ((self.a, pair.a), (self.b, pair.b))
            }
        return {
            pane: response(
                f"{pair.comparison} {side}", text, message, as_written=view == "plain", unfolded=pair.whole
            )
            for pane, side, text, message in (
                (self.a, "a", pair.a, pair.a_message),
                (self.b, "b", pair.b, pair.b_message),
            )
        }

    def offered(self, pair: Candidates) -> Update:
        """Return the values that offer a comparison's reasons, none of them ticked."""
        choices = [*((reason, reason) for reason in pair.reasons), (texts.RANK_UNSAFE, UNSAFE)]
        return {group: gr.CheckboxGroup(choices=choices, value=[]) for group in self.reasons.values()}


def build_pair(*, reasons: bool = False) -> PairPanel:
    """Lay out the two texts, with boxes for `reasons` below each; the verdicts are laid out by `lay_verdicts`.

    Nothing here can tell the releases apart: same place, same size, shown together.
    """
    groups: dict[str, gr.CheckboxGroup] = {}
    with gr.Row(equal_height=True, elem_classes="tt-pair"):
        panes = []
        for slot in ("a", "b"):
            with gr.Column(elem_classes="tt-response", min_width=280):
                static(f"<h2>Response {slot.upper()}</h2>")
                panes.append(static("", elem_id=f"response-{slot}"))
                if reasons:
                    groups[slot] = gr.CheckboxGroup(
                        [],
                        label=texts.RANK_REASONS.format(side=slot.upper()),
                        show_label=False,
                        container=False,
                        elem_id=f"rank-reasons-{slot}",
                        elem_classes="tt-reasons",
                    )
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
    return PairPanel(panes[0], panes[1], verdicts, groups)


def lay_verdicts(panel: PairPanel) -> None:
    """Lay out the four buttons in a row: A on the left, B on the right, as the texts lie."""
    with gr.Row(elem_classes="tt-verdicts"):
        for button in panel.verdicts.values():
            button.render()
