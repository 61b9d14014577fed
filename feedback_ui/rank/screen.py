"""The components of the Rank screen, and the updates that put a table on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from feedback_ui import dialogue, texts
from feedback_ui.html import empty, notice
from feedback_ui.part import Update
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
    as_written: gr.Checkbox
    panel: PairPanel
    better: gr.Textbox
    from_a: gr.Button
    from_b: gr.Button
    tags: gr.Dropdown
    outcome: gr.HTML
    ballot: gr.Column
    tally: gr.HTML
    following: gr.Button

    def outputs(self) -> list[Any]:
        """Return what every handler may change."""
        return [
            self.prompt_state, self.table_state, self.prompt, self.earlier, self.tally, self.idle, self.stage,
            self.ballot, self.asked, self.panel.a, self.panel.b, self.outcome, self.better, self.tags,
            self.sample, self.following, *self.panel.verdicts.values(),
        ]  # fmt: skip

    def laid(self, table: Table, queue: int | None = None) -> Update:
        """Put a table on the screen."""
        pair = table.pair
        update = {
            self.table_state: table,
            self.tally: dialogue.tally(table.votes, queue),
            self.idle: gr.HTML(empty(texts.RANK_EMPTY, texts.RANK_EMPTY_TITLE), visible=pair is None),
            self.stage: gr.Column(elem_classes="" if pair else "tt-away"),
            self.ballot: gr.Column(visible=table.open),
            self.outcome: dialogue.revealed(table),
            self.sample: gr.Button(interactive=True),
            self.following: gr.Button(
                texts.RANK_SKIP if table.open else texts.RANK_NEXT,
                variant="secondary" if table.open else "primary",
                interactive=True,
            ),
        }
        if pair is not None:
            update |= self.panel.show(pair, open_to_vote=table.open, as_written=table.as_written)
            update |= {self.asked: dialogue.messages(pair.messages, as_written=table.as_written)}
        return update

    def written(self, table: Table, wanted: bool) -> Update:
        """Show the responses as they were written, or as Markdown."""
        table = replace(table, as_written=wanted)
        pair = table.pair
        if pair is None:
            return {self.table_state: table}
        return {
            self.table_state: table,
            self.asked: dialogue.messages(pair.messages, as_written=wanted),
            **self.panel.texts(pair, as_written=wanted),
        }

    def emptied(self, text: str, why: list[str]) -> Update:
        """Empty the rater's own fields where something is in them.

        Gradio applies an update of a component inside a closed fold only once the fold opens, a moment after it is
        drawn: an update that says nothing new would wipe out the first words that a rater writes.
        """
        return ({self.better: ""} if text else {}) | ({self.tags: []} if why else {})

    def sampling(self) -> Update:
        """Say that two responses are being written."""
        return {
            self.idle: gr.HTML(
                notice(texts.RANK_SAMPLING, "accent tt-busy", f"<p>{texts.RANK_SAMPLING_HINT}</p>"),
                visible=True,
            ),
            # Out of sight and still there (`visible` takes it away), so that the fields in it are emptied at once.
            self.stage: gr.Column(elem_classes="tt-away"),
            self.ballot: gr.Column(visible=False),
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
