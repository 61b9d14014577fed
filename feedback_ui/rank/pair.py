"""Blind responses side by side and the verdicts; Rank and Chat share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import gradio as gr

from feedback_ui import dialogue, texts
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

    `reasons` are the boxes to tick for each response, where a screen has them; `more` are the places of a third and a fourth
    response, in `columns` that are only there where these are.
    """

    a: gr.HTML
    b: gr.HTML
    verdicts: dict[Choice, gr.Button]
    reasons: Mapping[str, gr.CheckboxGroup] = field(default_factory=dict)
    more: Mapping[str, gr.HTML] = field(default_factory=dict)
    columns: Mapping[str, gr.Column] = field(default_factory=dict)

    @property
    def panes(self) -> dict[str, gr.HTML]:
        """The texts by side."""
        return {"a": self.a, "b": self.b, **self.more}

    def show(self, pair: Candidates, *, open_to_vote: bool, view: str = "formatted") -> Update:
        """Return the values that show two responses and enable or disable the vote buttons."""
        buttons = {button: gr.Button(interactive=open_to_vote) for button in self.verdicts.values()}
        return {**self.texts(pair, view=view), **buttons}

    def texts(self, pair: Candidates, *, view: str) -> Update:
        """Return the values that show two responses: formatted, plain, by their differences, or cut to the same length.

        Thinking is folded, so that final answers are compared, unless the operator has whole responses compared. A fold
        belongs to its comparison: one that was opened says nothing about the next.
        """
        written = {side: _text(pair, side) for side in pair.answers}
        shown: dict[str, str] = {}
        if view == "differences":
            shown = {
                side: differences.marked(text, written["b" if side == "a" else "a"])
                for side, text in written.items()
            }
        elif view == "same_length":
            length = differences.shortest(list(written.values()))
            shown = {side: differences.same_length(text, length) for side, text in written.items()}
        else:
            shown = {side: _formatted(pair, side, as_written=view == "plain") for side in written}
        return {pane: shown[side] for side, pane in self.panes.items() if side in shown}

    def offered(self, pair: Candidates) -> Update:
        """Return the values that offer a comparison's reasons, none of them ticked."""
        choices = [*((reason, reason) for reason in pair.reasons), (texts.RANK_UNSAFE, UNSAFE)]
        groups = {group: gr.CheckboxGroup(choices=choices, value=[]) for group in self.reasons.values()}
        return groups | {
            column: gr.Column(visible=side in pair.answers) for side, column in self.columns.items()
        }


def _formatted(pair: Candidates, side: str, *, as_written: bool) -> str:
    """Render a response; of one that goes on for several turns all of them, with who says what."""
    if side in pair.branches:
        return dialogue.messages(pair.branches[side], as_written=as_written, key=f"{pair.comparison} {side}")
    text, message = pair.answers[side]
    key = f"{pair.comparison} {side}"
    return response(key, text, message, as_written=as_written, unfolded=pair.whole)


def _text(pair: Candidates, side: str) -> str:
    """Return a response as one text."""
    if side not in pair.branches:
        return pair.answers[side][0]
    return "\n\n".join(f"{turn.get('role')}: {turn.get('content') or ''}" for turn in pair.branches[side])


def build_pair(*, ranked: bool = False) -> PairPanel:
    """Lay out the two texts; `ranked` has boxes for reasons below each, and places for a third and a fourth.

    The verdicts are laid out by `lay_verdicts`. Nothing here can tell the releases apart: same place, same size, shown
    together.
    """
    groups: dict[str, gr.CheckboxGroup] = {}
    panes: dict[str, gr.HTML] = {}
    columns: dict[str, gr.Column] = {}
    with gr.Row(equal_height=True, elem_classes="tt-pair"):
        for slot in "abcd" if ranked else "ab":
            with gr.Column(elem_classes="tt-response", min_width=280, visible=slot in "ab") as column:
                static(f"<h2>Response {slot.upper()}</h2>")
                panes[slot] = static("", elem_id=f"response-{slot}")
                if ranked:
                    groups[slot] = _build_reasons(slot)
            if slot in "cd":
                columns[slot] = column
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
    more = {slot: pane for slot, pane in panes.items() if slot in columns}
    return PairPanel(panes["a"], panes["b"], verdicts, groups, more, columns)


def _build_reasons(slot: str) -> gr.CheckboxGroup:
    return gr.CheckboxGroup(
        [],
        label=texts.RANK_REASONS.format(side=slot.upper()),
        show_label=False,
        container=False,
        elem_id=f"rank-reasons-{slot}",
        elem_classes="tt-reasons",
    )


def lay_verdicts(panel: PairPanel) -> None:
    """Lay out the four buttons in a row: A on the left, B on the right, as the texts lie."""
    with gr.Row(elem_classes="tt-verdicts"):
        for button in panel.verdicts.values():
            button.render()
