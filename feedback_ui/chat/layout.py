"""The layout of the Chat screen."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat.conversation_list import build_list
from feedback_ui.chat.exporting import build_export
from feedback_ui.chat.sampling import build_sampling
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.chat.sharing import build_share
from feedback_ui.conversation import Talk
from feedback_ui.listing import static
from feedback_ui.rank.pair import PairPanel, build_pair, lay_verdicts

# Buttons inside of messages, which are HTML, come in through here: `submit` asks for an answer, `select` shows something.
_ACTS = """
window.trimtab.act = (act, text) => trigger(act === 'continue' ? 'submit' : 'select', { act, text: text || '' });
"""


class _Drawer(NamedTuple):
    new: gr.Button
    search: gr.Textbox
    past: gr.HTML


class _Toolbar(NamedTuple):
    model: gr.Dropdown
    export: gr.HTML
    temperature: gr.Textbox
    max_tokens: gr.Textbox


class _Offer(NamedTuple):
    column: gr.Column
    panel: PairPanel


class _Composer(NamedTuple):
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    compare: gr.Button


def build_layout(notice: gr.HTML) -> ChatScreen:
    """Lay out the screen on the current page; `notice` is the frame's."""
    talk = gr.State(Talk())
    pair = gr.State(None)
    dialog, mark, follow = (gr.Textbox(visible=False) for _ in range(3))
    acts = gr.HTML("", js_on_load=_ACTS, elem_classes="tt-away", elem_id="chat-acts")
    with gr.Column(elem_classes="tt-page tt-chat-page") as body, gr.Row(elem_classes="tt-chat"):
        drawer = _build_drawer()
        shared = static("", elem_id="chat-shared", visible=False)
        with gr.Column(scale=1, min_width=280, elem_classes="tt-talk") as column:
            toolbar = _build_toolbar()
            context = static("", elem_id="chat-context", visible=False)
            chatbot = _build_log()
            offer = _build_offer()
            use = static("", elem_id="chat-use")
            composer = _build_composer()
            share = build_share()
    return ChatScreen(
        notice=notice,
        talk=talk,
        pair=pair,
        body=body,
        new=drawer.new,
        search=drawer.search,
        past=drawer.past,
        model=toolbar.model,
        export=toolbar.export,
        temperature=toolbar.temperature,
        max_tokens=toolbar.max_tokens,
        context=context,
        chatbot=chatbot,
        offer=offer.column,
        panel=offer.panel,
        box=composer.box,
        send=composer.send,
        stop=composer.stop,
        compare=composer.compare,
        share=share,
        column=column,
        shared=shared,
        dialog=dialog,
        acts=acts,
        use=use,
        mark=mark,
        follow=follow,
    )


def _build_drawer() -> _Drawer:
    """Lay out the past conversations and the button that starts another."""
    with gr.Column(scale=0, min_width=260, elem_classes="tt-drawer"):
        new = gr.Button(texts.CHAT_NEW, size="md", elem_id="chat-new")
        static(f'<h2 class="tt-side-title">{texts.CHAT_HISTORY}</h2>')
        search = gr.Textbox(
            label=texts.CHAT_SEARCH,
            show_label=False,
            container=False,
            placeholder=texts.CHAT_SEARCH,
            max_length=200,
            elem_id="chat-search",
        )
        past = build_list()
    return _Drawer(new, search, past)


def _build_toolbar() -> _Toolbar:
    """Lay out who answers, and how."""
    with gr.Row(elem_classes="tt-toolbar", equal_height=True):
        static(f'<button type="button" class="tt-menu" data-tt="drawer">{texts.CHAT_HISTORY}</button>')
        model = gr.Dropdown(
            [],
            allow_custom_value=True,
            label=texts.CHAT_MODEL,
            show_label=False,
            container=False,
            elem_id="chat-model",
            min_width=200,
        )
        temperature, max_tokens = build_sampling("chat")
        export = build_export()
    return _Toolbar(model, export, temperature, max_tokens)


def _build_log() -> gr.Chatbot:
    """Lay out the conversation."""
    return gr.Chatbot(
        label=texts.CHAT_HISTORY,
        show_label=False,
        placeholder=texts.CHAT_EMPTY,
        examples=[{"text": text} for text in texts.CHAT_EXAMPLES],
        buttons=["copy"],
        editable="user",
        layout="bubble",
        height=None,
        elem_id="chat-log",
        elem_classes="tt-log",
        # Bubbles are HTML already (`model_text`): nothing in them is Markdown, a formula or a tag to take apart.
        latex_delimiters=[],
        allow_tags=False,
    )


def _build_offer() -> _Offer:
    """Lay out the two answers to judge, out of sight until there are any."""
    with gr.Column(visible=False, elem_classes="tt-offer", elem_id="chat-pair") as column:
        static(
            f'<div class="tt-offer-head"><h2>{texts.CHAT_PAIR_TITLE}</h2><p>{texts.CHAT_PAIR_HINT}</p></div>'
        )
        panel = build_pair()
        lay_verdicts(panel)
    return _Offer(column, panel)


def _build_composer() -> _Composer:
    """Lay out the message box and its buttons."""
    with gr.Row(elem_classes="tt-compose", equal_height=True):
        box = gr.Textbox(
            label=texts.CHAT_INPUT,
            show_label=False,
            container=False,
            placeholder=texts.CHAT_PLACEHOLDER,
            lines=1,
            max_lines=8,
            scale=1,
            min_width=160,
            autofocus=True,
            elem_id="chat-input",
        )
        send = gr.Button(texts.CHAT_SEND, variant="primary", scale=0, min_width=90, elem_id="chat-send")
        stop = gr.Button(
            texts.CHAT_STOP, variant="stop", scale=0, min_width=90, visible=False, elem_id="chat-stop"
        )
        compare = gr.Button(texts.CHAT_COMPARE, scale=0, min_width=180, elem_id="chat-compare")
    return _Composer(box, send, stop, compare)
