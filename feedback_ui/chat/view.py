"""The Chat screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import gradio as gr

from feedback_ui import dialogue, texts
from feedback_ui.chat import actions
from feedback_ui.chat.actions import Candidates
from feedback_ui.chat.sampling import build_sampling
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk
from feedback_ui.errors import explain, toasts
from feedback_ui.frame.view import build_frame, wire_frame
from feedback_ui.listing import pickable, static
from feedback_ui.part import Update
from feedback_ui.rank.pair import build_pair, lay_verdicts
from trimtab_client import AsyncClient
from trimtab_client.values import Choice


def build_chat(demo: gr.Blocks, connection: Connection) -> None:
    """Lay out and wire the Chat screen on the current page."""
    frame = build_frame("chat")
    talk = gr.State(Talk())
    pair = gr.State(None)
    with gr.Column(elem_classes="tt-page tt-chat-page") as body, gr.Row(elem_classes="tt-chat"):
        with gr.Column(scale=0, min_width=260, elem_classes="tt-drawer"):
            new = gr.Button(texts.CHAT_NEW, size="md", elem_id="chat-new")
            static(f'<h2 class="tt-side-title">{texts.CHAT_HISTORY}</h2>')
            past = pickable(dialogue.conversations((), None), elem_id="chat-history")
        with gr.Column(scale=1, min_width=280, elem_classes="tt-talk"):
            with gr.Row(elem_classes="tt-toolbar", equal_height=True):
                static(
                    f'<button type="button" class="tt-menu" data-tt="drawer">{texts.CHAT_HISTORY}</button>'
                )
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
            chatbot = gr.Chatbot(
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
            with gr.Column(visible=False, elem_classes="tt-offer", elem_id="chat-pair") as offer:
                static(
                    f'<div class="tt-offer-head"><h3>{texts.CHAT_PAIR_TITLE}</h3><p>{texts.CHAT_PAIR_HINT}</p></div>'
                )
                panel = build_pair()
                lay_verdicts(panel)
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
                send = gr.Button(
                    texts.CHAT_SEND, variant="primary", scale=0, min_width=90, elem_id="chat-send"
                )
                stop = gr.Button(
                    texts.CHAT_STOP, variant="stop", scale=0, min_width=90, visible=False, elem_id="chat-stop"
                )
                compare = gr.Button(texts.CHAT_COMPARE, scale=0, min_width=180, elem_id="chat-compare")
    wire_frame(demo, frame, body, connection)

    def shown(value: Talk) -> Update:
        return {talk: value, chatbot: gr.Chatbot(value.bubbles(), feedback_value=value.thumb_names())}

    def streaming(value: Talk) -> Update:
        if value.thumbs.early:
            return shown(value)
        return {talk: value, chatbot: value.bubbles()}

    async def rate_late(client: AsyncClient, value: Talk) -> None:
        try:
            await actions.rate_late(client, value)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)

    def busy(is_busy: bool) -> Update:
        return {
            send: gr.Button(visible=not is_busy),
            compare: gr.Button(interactive=not is_busy),
            stop: gr.Button(visible=is_busy),
        }

    def put_up(made: Candidates) -> Update:
        """Show two blind answers and ask which is better."""
        texts = panel.show(made.a, made.b, open_to_vote=True)
        return {**busy(False), pair: made, offer: gr.Column(visible=True), **texts}

    async def respond(
        value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Stream the answer to a conversation that ends with the person's message."""
        waiting_for = {talk: value, chatbot: value.awaiting(texts.CHAT_WAITING)}
        value.thumbs.begin(len(value.turns))
        yield {**waiting_for, **busy(True), offer: gr.Column(visible=False), pair: None}
        latest = value
        try:
            async with connection.client(request) as client:
                options = actions.sampling(heat, longest)
                name = name or await actions.default_model(client)
                if two := await actions.offered(client, value, name, options):
                    latest, made = two
                    latest.thumbs.due()
                    yield {**shown(latest), **put_up(made)}
                    return
                async for progress in actions.answer(client, value, name, options):
                    latest = progress.talk
                    waiting = progress.waiting
                    if waiting is not None:
                        bubbles = latest.awaiting(texts.ENGINE_WAITING)
                        yield {chatbot: bubbles, frame.notice: dialogue.readiness(waiting)}
                    else:
                        yield streaming(latest)
                yield {**shown(latest), **busy(False), frame.notice: ""}
                await rate_late(client, latest)
                rows = await actions.history_with(client, latest.conversation)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            kept = latest.settled()
            kept.thumbs.due()
            unanswered = bool(kept.turns) and kept.turns[-1].role == "user"
            text = kept.turns[-1].content if unanswered else ""
            if unanswered:
                kept = replace(kept, turns=kept.turns[:-1])
            yield {**shown(kept), **busy(False), box: text}
            return
        yield {past: dialogue.conversations(rows, latest.conversation)}

    async def on_send(
        text: str, value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        if not text.strip():
            gr.Warning(texts.CHAT_NOTHING_TO_SEND)
            yield busy(False)
            return
        yield {box: ""}
        async for update in respond(value.settled().said(text.strip()), name, heat, longest, request):
            yield update

    async def on_retry(
        value: Talk, name: str, heat: str, longest: str, event: gr.RetryData, request: gr.Request
    ) -> AsyncIterator[Update]:
        async for update in respond(value.before(_at(event.index)), name, heat, longest, request):
            yield update

    async def on_edit(
        value: Talk, name: str, heat: str, longest: str, event: gr.EditData, request: gr.Request
    ) -> AsyncIterator[Update]:
        reworded = value.reworded(_at(event.index), str(event.value))
        async for update in respond(reworded, name, heat, longest, request):
            yield update

    async def on_example(
        value: Talk, name: str, heat: str, longest: str, event: gr.SelectData, request: gr.Request
    ) -> AsyncIterator[Update]:
        async for update in respond(value.said(event.value["text"]), name, heat, longest, request):
            yield update

    def on_stopped(value: Talk) -> Update:
        kept = value.settled()
        return {**shown(kept), **busy(False)}

    async def after_stop(value: Talk, request: gr.Request) -> None:
        """Rate the stopped answer: an event of its own, for the answer ends, and is recorded, after `on_stopped`."""
        async with connection.client(request) as client:
            await rate_late(client, value)

    async def on_compare(
        text: str, value: Talk, name: str, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        asked = value.said(text.strip()) if text.strip() else value.before(len(value.turns))
        if not asked.turns:
            gr.Warning(texts.CHAT_NOTHING_TO_SEND)
            yield busy(False)
            return
        bubbles = asked.awaiting(texts.CHAT_SAMPLING_TWO)
        yield {talk: asked, chatbot: bubbles, **busy(True), box: "", offer: gr.Column(visible=False)}
        try:
            async with connection.client(request) as client:
                options = actions.sampling(heat, longest)
                name = name or await actions.default_model(client)
                made = await actions.two_answers(client, asked, name, options)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield {**shown(value), **busy(False), box: text}
            return
        yield {**shown(asked), **put_up(made)}

    def chooser(choice: Choice) -> Callable:
        async def on_choice(value: Talk, made: Candidates | None, request: gr.Request) -> Update:
            """Vote on the two answers; the chosen one joins the conversation."""
            if made is None:
                return {offer: gr.Column(visible=False)}
            with toasts():
                async with connection.client(request) as client:
                    chosen = await actions.choose(client, value, made, choice)
            if choice == "both_bad":
                gr.Info(texts.CHAT_BOTH_BAD)
            return {**shown(chosen), offer: gr.Column(visible=False), pair: None}

        return on_choice

    async def on_like(value: Talk, event: gr.LikeData, request: gr.Request) -> None:
        verdict = event.liked if isinstance(event.liked, bool) else None
        with toasts():
            async with connection.client(request) as client:
                await actions.rate(client, value, _at(event.index), verdict)

    async def on_open(request: gr.Request) -> Update:
        opened = request.query_params.get("c")
        with toasts():
            async with connection.client(request) as client:
                choices = await actions.model_choices(client)
                rows = await actions.history(client)
                value = Talk()
                if opened:
                    try:
                        value = await actions.reopen(client, opened)
                    except Exception as error:
                        gr.Warning(explain(error))
        if not choices:
            gr.Warning(texts.NO_MODELS)
        # Without a conversation to show, leave the log alone: a quick first message may be under way in it.
        return {
            **(shown(value) if value.turns else {}),
            model: gr.Dropdown(choices, value=choices[0][1] if choices else None),
            past: dialogue.conversations(rows, value.conversation),
        }

    async def on_pick(event: gr.EventData, request: gr.Request) -> Update:
        with toasts():
            async with connection.client(request) as client:
                value = await actions.reopen(client, str(event.id))
                rows = await actions.history(client)
        return {
            **shown(value),
            past: dialogue.conversations(rows, value.conversation),
            offer: gr.Column(visible=False),
        }

    async def on_new(request: gr.Request) -> Update:
        with toasts():
            async with connection.client(request) as client:
                rows = await actions.history(client)
        return {
            **shown(Talk()),
            **busy(False),
            past: dialogue.conversations(rows, None),
            offer: gr.Column(visible=False),
        }

    settings = [model, temperature, max_tokens]
    screen = [chatbot, talk, box, send, stop, compare, past, offer, pair, frame.notice]
    answered = [*screen, panel.a, panel.b, *panel.verdicts.values()]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    sent = gr.on(
        [box.submit, send.click],
        on_send,
        [box, talk, *settings],
        answered,
        api_name="send",
        show_progress="hidden",
        trigger_mode="once",
    )
    retried = chatbot.retry(on_retry, [talk, *settings], answered, **quiet)
    edited = chatbot.edit(on_edit, [talk, *settings], answered, **quiet)
    tried = chatbot.example_select(on_example, [talk, *settings], answered, **quiet)
    compared = compare.click(
        on_compare,
        [box, talk, *settings],
        answered,
        api_name="compare_answers",
        show_progress="hidden",
    )
    running = [sent, retried, edited, tried, compared]
    stopped = stop.click(on_stopped, [talk], screen, cancels=running, **quiet)
    stopped.then(after_stop, [talk], None, **quiet)
    gr.on([new.click, chatbot.clear], on_new, None, screen, cancels=running, **quiet)
    for choice, button in panel.verdicts.items():
        button.click(
            chooser(choice), [talk, pair], screen, api_name=f"choose_{choice}", show_progress="hidden"
        )
    chatbot.like(on_like, [talk], None, **quiet)
    past.click(on_pick, None, screen, cancels=running, **quiet)
    demo.load(on_open, None, [*screen, model], **quiet)
    # The address names the open conversation, so that a reload or a bookmark returns to it.
    mark = gr.Textbox(visible=False)
    talk.change(lambda value: value.conversation or "", [talk], [mark], **quiet)
    mark.change(None, [mark], None, js="(id) => { window.trimtab.address(id); }", api_visibility="private")


def _at(index: int | tuple[int, int] | list[int]) -> int:
    return index if isinstance(index, int) else index[0]
