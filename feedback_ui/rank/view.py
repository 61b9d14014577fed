"""The Rank screen: blind comparisons, one after the other, by mouse or by key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import gradio as gr

from feedback_ui import dialogue, texts
from feedback_ui.chat.actions import sampling as sampling_fields
from feedback_ui.chat.sampling import build_sampling
from feedback_ui.connection import Connection
from feedback_ui.errors import explain, toasts
from feedback_ui.frame.view import build_frame, wire_frame
from feedback_ui.html import empty, notice
from feedback_ui.listing import static
from feedback_ui.part import Update
from feedback_ui.rank import actions
from feedback_ui.rank.actions import Prompt, Table
from feedback_ui.rank.pair import build_pair, lay_verdicts
from trimtab_client.values import Choice


def build_rank(demo: gr.Blocks, connection: Connection) -> None:
    """Lay out and wire the Rank screen on the current page."""
    frame = build_frame("rank")
    prompt_state = gr.State(Prompt())
    table_state = gr.State(Table())
    with gr.Column(elem_classes="tt-page tt-rank-page") as body:
        with gr.Row(elem_classes="tt-composer", equal_height=True):
            prompt = gr.Textbox(
                label=texts.RANK_PROMPT,
                placeholder=texts.RANK_PROMPT_PLACEHOLDER,
                lines=2,
                max_lines=8,
                container=False,
                scale=1,
                min_width=260,
                elem_id="rank-prompt",
            )
            with gr.Column(scale=0, min_width=210, elem_classes="tt-composer-buttons"):
                sample = gr.Button(texts.RANK_COMPARE, variant="primary", elem_id="rank-compare")
                draw = gr.Button(texts.RANK_DRAW, elem_id="rank-draw")
        deployment = gr.Dropdown(
            [],
            allow_custom_value=True,
            label=texts.ROLLOUT_DEPLOYMENT,
            visible=False,
            elem_id="rank-deployment",
        )
        earlier = static("", elem_id="rank-earlier")
        temperature, max_tokens = build_sampling("rank")
        idle = static(empty(texts.RANK_EMPTY, texts.RANK_EMPTY_TITLE), elem_id="rank-idle")
        with gr.Column(elem_classes="tt-away", elem_id="rank-table") as stage:
            asked = static("", elem_id="rank-asked")
            as_written = gr.Checkbox(label=texts.RANK_PLAIN, container=False, elem_id="rank-plain")
            panel = build_pair()
            with gr.Accordion(texts.RANK_BETTER, open=False, elem_id="rank-better-fold"):
                better = gr.Textbox(
                    label=texts.RANK_BETTER_LABEL,
                    info=texts.RANK_BETTER_INFO,
                    lines=4,
                    max_lines=16,
                    elem_id="rank-better",
                )
                with gr.Row():
                    from_a = gr.Button(
                        texts.RANK_FILL_A, size="sm", scale=0, min_width=130, elem_id="rank-from-a"
                    )
                    from_b = gr.Button(
                        texts.RANK_FILL_B, size="sm", scale=0, min_width=130, elem_id="rank-from-b"
                    )
                tags = gr.Dropdown(
                    list(texts.RANK_TAG_CHOICES),
                    value=[],
                    label=texts.RANK_TAGS,
                    info=texts.RANK_TAGS_INFO,
                    multiselect=True,
                    allow_custom_value=True,
                    elem_id="rank-tags",
                )
        with gr.Column(elem_classes="tt-dock"):
            outcome = static("", elem_id="rank-outcome")
            with gr.Column(visible=False) as ballot:
                lay_verdicts(panel)
            with gr.Row(elem_classes="tt-rank-bar"):
                tally = static(dialogue.tally(0, None), elem_id="rank-tally")
                following = gr.Button(texts.RANK_NEXT, scale=0, min_width=190, elem_id="rank-next")
    wire_frame(demo, frame, body, connection)

    def laid(table: Table, queue: int | None = None) -> Update:
        """Put a table on the screen."""
        pair = table.pair
        update = {
            table_state: table,
            tally: dialogue.tally(table.votes, queue),
            idle: gr.HTML(empty(texts.RANK_EMPTY, texts.RANK_EMPTY_TITLE), visible=pair is None),
            stage: gr.Column(elem_classes="" if pair else "tt-away"),
            ballot: gr.Column(visible=table.open),
            outcome: dialogue.revealed(table),
            sample: gr.Button(interactive=True),
            following: gr.Button(
                texts.RANK_SKIP if table.open else texts.RANK_NEXT,
                variant="secondary" if table.open else "primary",
                interactive=True,
            ),
        }
        if pair is not None:
            update |= panel.show(pair.a, pair.b, open_to_vote=table.open, as_written=table.as_written)
            update |= {asked: dialogue.messages(pair.messages, as_written=table.as_written)}
        return update

    def on_plain(wanted: bool, table: Table) -> Update:
        """Show what lies on the table as it was written, or as Markdown."""
        table = replace(table, as_written=wanted)
        pair = table.pair
        if pair is None:
            return {table_state: table}
        return {
            table_state: table,
            asked: dialogue.messages(pair.messages, as_written=wanted),
            **panel.texts(pair.a, pair.b, as_written=wanted),
        }

    def emptied(text: str, why: list[str]) -> Update:
        """Empty the rater's own fields where something is in them.

        Gradio applies an update of a component inside a closed fold only once the fold opens, a moment after it is
        drawn: an update that says nothing new would wipe out the first words that a rater writes.
        """
        return ({better: ""} if text else {}) | ({tags: []} if why else {})

    def sampling() -> Update:
        return {
            idle: gr.HTML(
                notice(texts.RANK_SAMPLING, "accent tt-busy", f"<p>{texts.RANK_SAMPLING_HINT}</p>"),
                visible=True,
            ),
            # Out of sight and still there (`visible` takes it away), so that the fields in it are emptied at once.
            stage: gr.Column(elem_classes="tt-away"),
            ballot: gr.Column(visible=False),
            outcome: "",
            sample: gr.Button(interactive=False),
            following: gr.Button(interactive=False),
        }

    def prompted(drawn: Prompt) -> Update:
        return {prompt_state: drawn, prompt: drawn.text, earlier: dialogue.earlier(drawn.earlier)}

    async def on_draw(request: gr.Request) -> Update:
        """Draw a prompt into the box."""
        with toasts():
            async with connection.client(request) as client:
                return prompted(await actions.draw(client))

    async def on_sample(
        text: str,
        drawn: Prompt,
        own: str,
        why: list[str],
        name: str,
        table: Table,
        heat: str,
        longest: str,
        request: gr.Request,
    ) -> AsyncIterator[Update]:
        """Sample two responses to what the box says."""
        if not text.strip():
            gr.Warning(texts.RANK_NO_PROMPT)
            yield {}
            return
        # Earlier messages belong to the prompt that was drawn, not to one typed afterwards.
        asked_for = drawn if text.strip() == drawn.text.strip() else Prompt(text=text)
        async for update in laid_out(asked_for, emptied(own, why), name, table, (heat, longest), request):
            yield update

    async def laid_out(
        wanted: Prompt, clear: Update, name: str, table: Table, fields: tuple[str, str], request: gr.Request
    ) -> AsyncIterator[Update]:
        yield {**sampling(), **prompted(wanted)}
        try:
            async with connection.client(request) as client:
                made = await actions.sample(client, wanted, name, table, sampling_fields(*fields))
                queue = await actions.waiting(client)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield laid(table)
            return
        yield {**laid(made, queue), **clear, **prompted(Prompt())}

    async def on_next(
        own: str, why: list[str], name: str, table: Table, heat: str, longest: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        """Take the next waiting comparison; with none waiting, draw a prompt and sample it."""
        try:
            async with connection.client(request) as client:
                taken = await actions.take_next(client, table)
                queue = await actions.waiting(client)
                drawn = Prompt() if taken.pair else await actions.draw(client)
        except Exception as error:
            gr.Warning(explain(error), title=texts.FAILED, duration=8)
            yield {}
            return
        if taken.pair:
            yield {**laid(taken, queue), **emptied(own, why)}
            return
        async for update in laid_out(drawn, emptied(own, why), name, table, (heat, longest), request):
            yield update

    def voter(choice: Choice) -> Callable:
        async def on_vote(table: Table, text: str, why: list[str], request: gr.Request) -> Update:
            """Record the verdict and reveal."""
            with toasts():
                async with connection.client(request) as client:
                    decided = await actions.vote(client, table, choice, text or "", tuple(why or ()))
                    queue = await actions.waiting(client)
            return laid(decided, queue)

        return on_vote

    async def on_open(request: gr.Request) -> Update:
        with toasts():
            async with connection.client(request) as client:
                names = await actions.deployments(client)
                queue = await actions.waiting(client)
        return {
            deployment: gr.Dropdown(names, value=names[0] if names else None, visible=len(names) > 1),
            tally: dialogue.tally(0, queue),
        }

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    screen = [
        prompt_state, table_state, prompt, earlier, tally, idle, stage, ballot, asked, panel.a, panel.b, outcome,
        better, tags, sample, following, *panel.verdicts.values(),
    ]  # fmt: skip
    draw.click(on_draw, None, [prompt_state, prompt, earlier], api_name="draw", show_progress="hidden")
    sample.click(
        on_sample,
        [prompt, prompt_state, better, tags, deployment, table_state, temperature, max_tokens],
        screen,
        api_name="sample",
        show_progress="hidden",
    )
    following.click(
        on_next,
        [better, tags, deployment, table_state, temperature, max_tokens],
        screen,
        api_name="next",
        show_progress="hidden",
    )
    for choice, button in panel.verdicts.items():
        button.click(
            voter(choice),
            [table_state, better, tags],
            screen,
            api_name=f"vote_{choice}",
            show_progress="hidden",
        )
    as_written.input(on_plain, [as_written, table_state], [table_state, asked, panel.a, panel.b], **quiet)
    from_a.click(lambda table: table.pair.a if table.pair else "", [table_state], [better], **quiet)
    from_b.click(lambda table: table.pair.b if table.pair else "", [table_state], [better], **quiet)
    demo.load(on_open, None, [deployment, tally], **quiet)
