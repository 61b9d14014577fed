"""The components of the Rank screen, and the updates that put a table on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from feedback_ui import dialogue, texts
from feedback_ui.html import empty, notice
from feedback_ui.part import Update
from feedback_ui.rank import render
from feedback_ui.rank.actions import Prompt, Table
from feedback_ui.rank.pair import PairPanel


@dataclass(frozen=True)
class RankScreen:
    """The components by name; `prompt_state` and `table_state` hold what was drawn and the comparison that is shown."""

    prompt_state: gr.State
    table_state: gr.State
    body: gr.Column
    prompt: gr.Textbox
    sample: gr.Button
    draw: gr.Button
    deployment: gr.Dropdown
    earlier: gr.HTML
    temperature: gr.Textbox
    max_tokens: gr.Textbox
    idle: gr.HTML
    stage: gr.Column
    asked: gr.HTML
    guidelines: gr.HTML
    view: gr.Radio
    panel: PairPanel
    better: gr.Textbox
    from_a: gr.Button
    from_b: gr.Button
    changes: gr.HTML
    comment: gr.Textbox
    tags: gr.Dropdown
    history: gr.Accordion
    cast: gr.HTML
    outcome: gr.HTML
    ballot: gr.Column
    strength: gr.Radio
    order_ballot: gr.Column
    order: gr.HTML
    order_vote: gr.Button
    all_bad: gr.Button
    tally: gr.HTML
    undo: gr.Button
    skip: gr.HTML
    following: gr.Button

    def outputs(self) -> list[Any]:
        """Return what every handler may change."""
        panel = self.panel
        return [
            self.prompt_state, self.table_state, self.prompt, self.earlier, self.tally, self.idle, self.stage,
            self.ballot, self.order_ballot, self.order, self.asked, self.guidelines, self.outcome, self.better,
            self.changes, self.comment, self.tags, self.sample, self.following, self.strength, self.undo, self.skip,
            *panel.panes.values(), *panel.verdicts.values(), *panel.reasons.values(), *panel.columns.values(),
        ]  # fmt: skip

    def said(self) -> list[Any]:
        """Return what a rater says beside a verdict, in the order of `Ranking.voter`."""
        return [self.better, self.tags, self.comment, self.strength, *self.panel.reasons.values()]

    def laid(self, table: Table, queue: int | None = None) -> Update:
        """Put a table on the screen."""
        pair = table.pair
        update = {
            self.table_state: table,
            self.tally: render.tally(table, queue),
            self.idle: gr.HTML(empty(texts.RANK_EMPTY, texts.RANK_EMPTY_TITLE), visible=pair is None),
            self.stage: gr.Column(elem_classes="" if pair else "tt-away"),
            self.ballot: _ballot(shown=table.open and not table.several),
            self.order_ballot: _ballot(shown=table.open and table.several),
            self.outcome: render.outcome(table),
            self.sample: gr.Button(interactive=True),
            self.undo: gr.Button(interactive=table.last is not None),
            self.skip: render.skip_menu(pair.skip_reasons if pair and table.open else ()),
            self.following: gr.Button(
                texts.RANK_SKIP if table.open else texts.RANK_NEXT,
                variant="secondary" if table.open else "primary",
                interactive=True,
            ),
        }
        if pair is not None:
            update |= self.panel.show(pair, open_to_vote=table.open, view=table.view)
            update |= {self.asked: self._asked(table), self.guidelines: render.guidelines(pair.guidelines)}
        if pair is not None and table.open:
            update |= {self.strength: "", **self.panel.offered(pair)}
            update |= {self.order: render.order(pair.answers) if table.several else ""}
        return update

    def decided(self, table: Table, queue: int | None = None) -> Update:
        """Show what a vote revealed; the responses stay as they are, so that little has to be drawn."""
        return {
            self.table_state: table,
            self.tally: render.tally(table, queue),
            self.ballot: _ballot(shown=False),
            self.order_ballot: _ballot(shown=False),
            self.outcome: render.outcome(table),
            self.undo: gr.Button(interactive=table.last is not None),
            self.skip: "",
            self.following: gr.Button(texts.RANK_NEXT, variant="primary", interactive=True),
        }

    def decided_outputs(self) -> list[Any]:
        """Return what `decided` changes."""
        return [
            self.table_state, self.tally, self.ballot, self.order_ballot, self.outcome, self.undo, self.skip,
            self.following,
        ]  # fmt: skip

    def shown(self, table: Table, view: str) -> Update:
        """Show the responses in another way."""
        table = replace(table, view=view)
        if table.pair is None:
            return {self.table_state: table}
        return {
            self.table_state: table,
            self.asked: self._asked(table),
            **self.panel.texts(table.pair, view=view),
        }

    def _asked(self, table: Table) -> str:
        return dialogue.messages(
            table.pair.messages if table.pair else (), as_written=table.view != "formatted"
        )

    def emptied(self, text: str, why: list[str], comment: str) -> Update:
        """Empty the rater's own fields where something is in them.

        Gradio applies an update of a component inside a closed fold only once the fold opens, a moment after it is
        drawn: an update that says nothing new would wipe out the first words that a rater writes.
        """
        return (
            ({self.better: "", self.changes: ""} if text else {})
            | ({self.tags: []} if why else {})
            | ({self.comment: ""} if comment else {})
        )

    def sampling(self) -> Update:
        """Say that two responses are being written."""
        return {
            self.idle: gr.HTML(
                notice(texts.RANK_SAMPLING, "accent tt-busy", f"<p>{texts.RANK_SAMPLING_HINT}</p>"),
                visible=True,
            ),
            # Out of sight and still there (`visible` takes it away), so that the fields in it are emptied at once.
            self.stage: gr.Column(elem_classes="tt-away"),
            self.ballot: _ballot(shown=False),
            self.order_ballot: _ballot(shown=False),
            self.outcome: "",
            self.sample: gr.Button(interactive=False),
            self.following: gr.Button(interactive=False),
        }

    def prompted(self, drawn: Prompt) -> Update:
        """Put a prompt into the box."""
        return {
            self.prompt_state: drawn,
            self.prompt: drawn.text,
            self.earlier: dialogue.earlier(drawn.earlier),
        }


def _ballot(*, shown: bool) -> gr.Column:
    """Show verdicts, or put them out of sight: to take them off the page and build them again takes a tenth of a second."""
    return gr.Column(elem_classes=["tt-ballot"] if shown else ["tt-ballot", "tt-away"])
