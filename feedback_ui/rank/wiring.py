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
    own = [screen.better, screen.tags, screen.deployment, screen.table_state]
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
    going_on = screen.following.click(
        ranking.on_next,
        [*own, *sampling],
        screen.outputs(),
        api_name="next",
        show_progress="hidden",
    )
    # Not after a prompt of the rater's own: who writes prompts does not take the next from the queue.
    ahead = [screen.deployment, screen.table_state, *sampling]
    going_on.then(ranking.on_ahead, ahead, None, **_QUIET)


def _wire_votes(screen: RankScreen, ranking: Ranking) -> None:
    """Connect the verdicts."""
    for choice, button in screen.panel.verdicts.items():
        button.click(
            ranking.voter(choice),
            [screen.table_state, screen.better, screen.tags],
            screen.outputs(),
            api_name=f"vote_{choice}",
            show_progress="hidden",
        )


def _wire_texts(screen: RankScreen, ranking: Ranking) -> None:
    """Connect what changes the texts: their form, and the rater's own from one of them."""
    laid, better, panel = screen.table_state, screen.better, screen.panel
    shown = [laid, screen.asked, panel.a, panel.b]
    screen.as_written.input(ranking.on_plain, [screen.as_written, laid], shown, **_QUIET)
    screen.from_a.click(lambda table: table.pair.a if table.pair else "", [laid], [better], **_QUIET)
    screen.from_b.click(lambda table: table.pair.b if table.pair else "", [laid], [better], **_QUIET)
