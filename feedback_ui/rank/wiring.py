"""The events of the Rank screen."""

from __future__ import annotations

import gradio as gr

from feedback_ui.connection import Connection
from feedback_ui.rank.ranking import Ranking
from feedback_ui.rank.screen import RankScreen

_QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def wire_rank(demo: gr.Blocks, screen: RankScreen, connection: Connection) -> None:
    """Connect the events."""
    ranking = Ranking(screen, connection)
    _wire_comparisons(screen, ranking)
    _wire_votes(screen, ranking)
    _wire_texts(screen, ranking)
    opened = demo.load(ranking.on_open, None, [*screen.outputs(), screen.deployment], **_QUIET)
    ahead = [screen.deployment, screen.table_state, screen.temperature, screen.max_tokens]
    opened.then(ranking.on_ahead, ahead, None, **_QUIET)


def _wire_comparisons(screen: RankScreen, ranking: Ranking) -> None:
    """Connect what brings a prompt or a comparison."""
    own = [screen.better, screen.tags, screen.comment, screen.deployment, screen.table_state]
    sampling = [screen.temperature, screen.max_tokens]
    drawn = [screen.prompt_state, screen.prompt, screen.earlier]
    screen.draw.click(ranking.on_draw, None, drawn, api_name="draw", show_progress="hidden")
    screen.sample.click(
        ranking.on_sample,
        [screen.prompt, screen.prompt_state, *own, *sampling],
        screen.outputs(),
        api_name="sample",
        show_progress="hidden",
    )
    # One request and its answer, without the queue's stream of events: raters wait for this at every comparison.
    taken = screen.following.click(
        ranking.on_take,
        [screen.better, screen.tags, screen.comment, screen.table_state],
        screen.outputs(),
        queue=False,
        **_QUIET,
    )
    going_on = taken.then(ranking.on_fill, [*own, *sampling], screen.outputs(), **_QUIET)
    gr.Button(visible=False).click(
        ranking.on_next, [*own, *sampling], screen.outputs(), api_name="next", show_progress="hidden"
    )
    left = screen.skip.click(ranking.on_skip, [*own, *sampling], screen.outputs(), **_QUIET)
    # Not after a prompt of the rater's own: who writes prompts does not take the next from the queue.
    ahead = [screen.deployment, screen.table_state, *sampling]
    for going in (going_on, left):
        going.then(ranking.on_ahead, ahead, None, **_QUIET)


def _wire_votes(screen: RankScreen, ranking: Ranking) -> None:
    """Connect the verdicts."""
    for choice, button in screen.panel.verdicts.items():
        button.click(
            ranking.voter(choice),
            [screen.table_state, *screen.said()],
            screen.decided_outputs(),
            api_name=f"vote_{choice}",
            show_progress="hidden",
            queue=False,
        )

    said = [screen.table_state, *screen.said()]
    order = gr.Textbox(visible=False)
    screen.order_vote.click(
        ranking.on_order,
        [order, *said],
        screen.decided_outputs(),
        queue=False,
        js="(_, ...said) => [window.trimtab.order(), ...said]",
        api_name="vote_order",
        show_progress="hidden",
    )
    screen.all_bad.click(ranking.voter("both_bad"), said, screen.decided_outputs(), queue=False, **_QUIET)
    screen.undo.click(
        ranking.on_undo, [screen.table_state], screen.outputs(), api_name="undo", show_progress="hidden"
    )
    screen.history.expand(ranking.on_history, None, [screen.cast], **_QUIET)
    screen.cast.click(ranking.on_reopen, [screen.table_state], [*screen.outputs(), screen.cast], **_QUIET)


def _wire_texts(screen: RankScreen, ranking: Ranking) -> None:
    """Connect what changes the texts: their form, and the rater's own from one of them."""
    laid, better, panel = screen.table_state, screen.better, screen.panel
    shown = [laid, screen.asked, *panel.panes.values()]
    screen.view.input(ranking.on_view, [screen.view, laid], shown, trigger_mode="always_last", **_QUIET)
    better.change(ranking.on_written, [better, laid], [screen.changes], trigger_mode="always_last", **_QUIET)
    screen.from_a.click(lambda table: table.pair.a if table.pair else "", [laid], [better], **_QUIET)
    screen.from_b.click(lambda table: table.pair.b if table.pair else "", [laid], [better], **_QUIET)
