"""The components of the Chat screen, and the updates that put a conversation into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from feedback_ui.chat.actions import Candidates
from feedback_ui.conversation import Talk
from feedback_ui.part import Update
from feedback_ui.rank.pair import PairPanel


@dataclass(frozen=True)
class ChatScreen:
    """The components by name; `talk` and `pair` hold the conversation and the two answers to judge.

    Out of sight: `mark` is the id in the address, `follow` changes where an answer under way is to be followed.
    """

    notice: gr.HTML
    talk: gr.State
    pair: gr.State
    body: gr.Column
    new: gr.Button
    search: gr.Textbox
    past: gr.HTML
    model: gr.Dropdown
    export: gr.HTML
    temperature: gr.Textbox
    max_tokens: gr.Textbox
    context: gr.HTML
    chatbot: gr.Chatbot
    offer: gr.Column
    panel: PairPanel
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    compare: gr.Button
    share: gr.Radio
    column: gr.Column
    shared: gr.HTML
    dialog: gr.Textbox
    acts: gr.HTML
    use: gr.HTML
    mark: gr.Textbox
    follow: gr.Textbox

    def settings(self) -> list[Any]:
        """Return the inputs that say who answers, and how."""
        return [self.model, self.temperature, self.max_tokens]

    def outputs(self) -> list[Any]:
        """Return what every handler may change."""
        return [
            self.chatbot, self.talk, self.box, self.send, self.stop, self.compare, self.past, self.offer,
            self.pair, self.notice, self.context, self.export, self.column, self.shared,
            self.mark, self.follow,
        ]  # fmt: skip

    def answered(self) -> list[Any]:
        """Return what a handler may change that can end in two answers to judge."""
        return [*self.outputs(), self.panel.a, self.panel.b, *self.panel.verdicts.values()]

    def shown(self, value: Talk) -> Update:
        """Show a conversation with its thumbs."""
        above = value.context()
        return {
            self.talk: value,
            self.export: gr.HTML(visible=bool(value.turns)),
            self.context: gr.HTML(above, visible=bool(above)),
            self.chatbot: gr.Chatbot(value.bubbles(), feedback_value=value.thumb_names()),
        }

    def streaming(self, value: Talk) -> Update:
        """Show a conversation whose last answer is still being written."""
        if value.thumbs.early:
            return self.shown(value)
        return {self.talk: value, self.chatbot: value.bubbles()}

    def busy(self, is_busy: bool) -> Update:
        """Offer to stop while an answer is written, and to send otherwise."""
        return {
            self.send: gr.Button(visible=not is_busy),
            self.compare: gr.Button(interactive=not is_busy),
            self.stop: gr.Button(visible=is_busy),
        }

    def put_up(self, made: Candidates) -> Update:
        """Show two blind answers and ask which is better."""
        shown = self.panel.show(made, open_to_vote=True)
        return {**self.busy(False), self.pair: made, self.offer: gr.Column(visible=True), **shown}

    def own(self) -> Update:
        """Show the person's own conversation, not one that somebody shared."""
        return {self.column: gr.Column(visible=True), self.shared: gr.HTML(visible=False)}

    def without_offer(self) -> Update:
        """Hide the two answers."""
        return {self.offer: gr.Column(visible=False)}
