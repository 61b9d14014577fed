"""The events of the Chat screen."""

from __future__ import annotations

import json
import time

import gradio as gr

from feedback_ui.chat.answering import Answering
from feedback_ui.chat.browsing import Browsing
from feedback_ui.chat.exporting import exported
from feedback_ui.chat.filing import Filing
from feedback_ui.chat.judging import Judging
from feedback_ui.chat.live import LiveAnswers
from feedback_ui.chat.screen import ChatScreen
from feedback_ui.chat.sharing import Sharing
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk

_QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def wire_chat(demo: gr.Blocks, screen: ChatScreen, connection: Connection) -> None:
    """Connect the events."""
    answers = LiveAnswers(connection)
    running = _wire_answers(screen, Answering(screen, connection, answers))
    browsing = Browsing(screen, connection, answers)
    new = [screen.new.click, screen.chatbot.clear]
    gr.on(new, browsing.on_new, None, screen.outputs(), cancels=running, **_QUIET)
    _wire_judgements(screen, Judging(screen, connection))
    screen.search.change(browsing.on_search, [screen.search, screen.talk], [screen.past], **_QUIET)
    screen.past.click(browsing.on_pick, [screen.search], screen.outputs(), cancels=running, **_QUIET)
    screen.mark.change(browsing.on_shown, [screen.talk, screen.model], [screen.use], **_QUIET)
    screen.acts.select(browsing.on_version, [screen.talk], screen.outputs(), **_QUIET)
    filing = Filing(screen, connection, answers)
    screen.past.select(
        filing.on_act, [screen.search, screen.talk], [*screen.outputs(), screen.dialog], **_QUIET
    )
    screen.dialog.change(
        None,
        [screen.dialog],
        None,
        js="(link) => { window.trimtab.showLink(link); }",
        api_visibility="private",
    )
    # The model that was chosen last in this browser comes along, and is chosen again if there is one of that name.
    last = gr.Textbox(visible=False)
    opened = [*screen.outputs(), screen.model]
    demo.load(browsing.on_open, [last], opened, js="() => window.trimtab.lastModel()", **_QUIET)
    _wire_address(screen)
    _wire_browser(demo, screen)
    sharing = Sharing(connection)
    demo.load(sharing.on_open, None, [screen.share], **_QUIET)
    screen.share.input(
        sharing.on_choose, [screen.share], [screen.share], api_name="share", show_progress="hidden"
    )


def _wire_answers(screen: ChatScreen, answering: Answering) -> list:
    """Connect what gets an answer and what stops it; return the events that a stop cancels."""
    talk, box, chatbot = screen.talk, screen.box, screen.chatbot
    settings, answered = screen.settings(), screen.answered()
    sent = gr.on(
        [box.submit, screen.send.click],
        answering.on_send,
        [box, talk, *settings],
        answered,
        api_name="send",
        show_progress="hidden",
        trigger_mode="once",
    )
    retried = chatbot.retry(answering.on_retry, [talk, *settings], answered, **_QUIET)
    edited = chatbot.edit(answering.on_edit, [talk, *settings], answered, **_QUIET)
    tried = chatbot.example_select(answering.on_example, [talk, *settings], answered, **_QUIET)
    continued = screen.acts.submit(answering.on_continue, [talk, *settings], answered, **_QUIET)
    followed = screen.follow.change(answering.on_follow, [talk], answered, **_QUIET)
    compared = screen.compare.click(
        answering.on_compare,
        [box, talk, *settings],
        answered,
        api_name="compare_answers",
        show_progress="hidden",
    )
    # Named, not taken from `busy`: a component that is made here becomes a part of the page.
    sending = [screen.send, screen.compare, screen.stop]
    for event in (sent, retried, edited, tried, continued, followed):
        offered = event.then(lambda: screen.busy(False), None, sending, **_QUIET)
        offered.then(answering.after_answer, [talk, screen.model], [screen.past, screen.use], **_QUIET)
    running = [sent, retried, edited, tried, continued, followed, compared]
    stopped = screen.stop.click(answering.on_stopped, [talk], screen.outputs(), cancels=running, **_QUIET)
    stopped.then(answering.after_stop, [talk], None, **_QUIET)
    return running


def _wire_judgements(screen: ChatScreen, judging: Judging) -> None:
    """Connect the verdicts and the thumbs."""
    for choice, button in screen.panel.verdicts.items():
        button.click(
            judging.chooser(choice),
            [screen.talk, screen.pair],
            screen.outputs(),
            api_name=f"choose_{choice}",
            show_progress="hidden",
        )
    screen.chatbot.like(judging.on_like, [screen.talk], None, **_QUIET)


def _wire_address(screen: ChatScreen) -> None:
    """Name the open conversation in the address, so that a reload or a bookmark returns to it."""
    mark = screen.mark
    screen.talk.change(lambda value: value.conversation or "", [screen.talk], [mark], **_QUIET)
    mark.change(None, [mark], None, js="(id) => { window.trimtab.address(id); }", api_visibility="private")


def _wire_browser(demo: gr.Blocks, screen: ChatScreen) -> None:
    """Keep in the browser what is not sent: the words in the box, until the tab closes, and which model was chosen."""
    here = {"api_visibility": "private"}
    demo.load(None, [screen.box], [screen.box], js="(text) => window.trimtab.takeDraft('chat', text)", **here)
    screen.box.change(
        None, [screen.box], None, js="(text) => { window.trimtab.keepDraft('chat', text); }", **here
    )
    screen.model.input(
        None, [screen.model], None, js="(name) => { window.trimtab.chooseModel(name); }", **here
    )
    file = gr.Textbox(visible=False)

    def on_export(value: Talk, event: gr.EventData) -> str:
        """Return the file of the form that was picked, and when: the same file again is saved again."""
        return json.dumps(exported(value, str(event.id)) | {"at": time.time()})

    screen.export.click(on_export, [screen.talk], [file], **_QUIET)
    file.change(None, [file], None, js="(file) => { window.trimtab.save(file); }", **here)
