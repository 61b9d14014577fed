"""Two blind responses side by side and the four verdicts; Rank and Chat share them."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from feedback_ui import texts as copy
from feedback_ui.listing import static
from feedback_ui.part import Update


@dataclass(frozen=True)
class PairPanel:
    """The components of a pair: both texts and a button for each verdict, keyed a, b, tie, both_bad."""

    a: gr.Markdown
    b: gr.Markdown
    verdicts: dict[str, gr.Button]

    def show(self, a: str, b: str, *, open_to_vote: bool) -> Update:
        """Values that put two texts on the screen and switch the verdicts on or off."""
        buttons = {button: gr.Button(interactive=open_to_vote) for button in self.verdicts.values()}
        return {self.a: a, self.b: b, **buttons}


def build_pair() -> PairPanel:
    """Lay out the two texts; the verdicts are made too and laid out by `lay_verdicts`.

    Nothing here can tell the releases apart: same place, same size, shown together.
    """
    with gr.Row(equal_height=True, elem_classes="tt-pair"):
        texts = []
        for slot in ("a", "b"):
            with gr.Column(elem_classes="tt-response", min_width=280):
                static(f"<h3>Response {slot.upper()}</h3>")
                texts.append(
                    gr.Markdown(elem_id=f"response-{slot}", line_breaks=True, elem_classes="tt-response-text")
                )
    verdicts = {
        choice: gr.Button(
            f"{copy.RANK_VOTE[choice]}  ({copy.RANK_KEYS[choice]})",
            elem_id=f"vote-{choice.replace('_', '-')}",
            variant="primary" if choice in ("a", "b") else "secondary",
            min_width=120,
            render=False,
        )
        for choice in ("a", "tie", "both_bad", "b")
    }
    return PairPanel(texts[0], texts[1], verdicts)


def lay_verdicts(panel: PairPanel) -> None:
    """Lay out the four buttons in a row: A on the left, B on the right, as the texts lie."""
    with gr.Row(elem_classes="tt-verdicts"):
        for button in panel.verdicts.values():
            button.render()
