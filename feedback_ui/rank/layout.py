"""The layout of the Rank screen."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat.sampling import build_sampling
from feedback_ui.html import empty
from feedback_ui.listing import pickable, static
from feedback_ui.rank import render
from feedback_ui.rank.actions import Prompt, Table
from feedback_ui.rank.pair import PairPanel, build_pair, lay_verdicts
from feedback_ui.rank.screen import RankScreen


class _Composer(NamedTuple):
    prompt: gr.Textbox
    sample: gr.Button
    draw: gr.Button


class _Better(NamedTuple):
    better: gr.Textbox
    from_a: gr.Button
    from_b: gr.Button
    changes: gr.HTML
    comment: gr.Textbox
    tags: gr.Dropdown


class _Stage(NamedTuple):
    column: gr.Column
    asked: gr.HTML
    guidelines: gr.HTML
    view: gr.Radio
    panel: PairPanel
    own: _Better


class _Dock(NamedTuple):
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


class _History(NamedTuple):
    fold: gr.Accordion
    votes: gr.HTML


def build_layout() -> RankScreen:
    """Lay out the screen on the current page."""
    prompt_state = gr.State(Prompt())
    table_state = gr.State(Table())
    with gr.Column(elem_classes="tt-page tt-rank-page") as body:
        composer = _build_composer()
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
        stage = _build_stage()
        history = _build_history()
        dock = _build_dock(stage.panel)
    return RankScreen(
        prompt_state=prompt_state,
        table_state=table_state,
        body=body,
        prompt=composer.prompt,
        sample=composer.sample,
        draw=composer.draw,
        deployment=deployment,
        earlier=earlier,
        temperature=temperature,
        max_tokens=max_tokens,
        idle=idle,
        stage=stage.column,
        asked=stage.asked,
        guidelines=stage.guidelines,
        view=stage.view,
        panel=stage.panel,
        better=stage.own.better,
        from_a=stage.own.from_a,
        from_b=stage.own.from_b,
        changes=stage.own.changes,
        comment=stage.own.comment,
        tags=stage.own.tags,
        history=history.fold,
        cast=history.votes,
        outcome=dock.outcome,
        ballot=dock.ballot,
        strength=dock.strength,
        order_ballot=dock.order_ballot,
        order=dock.order,
        order_vote=dock.order_vote,
        all_bad=dock.all_bad,
        tally=dock.tally,
        undo=dock.undo,
        skip=dock.skip,
        following=dock.following,
    )


def _build_composer() -> _Composer:
    """Lay out the prompt with the buttons that draw one and sample it."""
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
    return _Composer(prompt, sample, draw)


def _build_stage() -> _Stage:
    """Lay out the two responses, with what they answer and the rater's own fields."""
    with gr.Column(elem_classes="tt-away", elem_id="rank-table") as column:
        asked = static("", elem_id="rank-asked")
        with gr.Row(elem_classes="tt-rank-tools"):
            guidelines = static("", elem_id="rank-guidelines")
            view = gr.Radio(
                list(texts.RANK_VIEWS),
                value="formatted",
                label=texts.RANK_VIEW,
                show_label=False,
                container=False,
                elem_id="rank-view",
                elem_classes="tt-segments",
            )
        panel = build_pair(ranked=True)
        own = _build_better()
    return _Stage(column, asked, guidelines, view, panel, own)


def _build_better() -> _Better:
    """Lay out the fold in which the rater writes a better response and says why."""
    with gr.Accordion(texts.RANK_BETTER, open=False, elem_id="rank-better-fold"):
        better = gr.Textbox(
            label=texts.RANK_BETTER_LABEL,
            info=texts.RANK_BETTER_INFO,
            lines=4,
            max_lines=16,
            elem_id="rank-better",
        )
        with gr.Row():
            from_a = gr.Button(texts.RANK_FILL_A, size="sm", scale=0, min_width=130, elem_id="rank-from-a")
            from_b = gr.Button(texts.RANK_FILL_B, size="sm", scale=0, min_width=130, elem_id="rank-from-b")
        changes = static("", elem_id="rank-changes")
        comment = gr.Textbox(
            label=texts.RANK_COMMENT,
            info=texts.RANK_COMMENT_INFO,
            lines=1,
            max_lines=6,
            elem_id="rank-comment",
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
    return _Better(better, from_a, from_b, changes, comment, tags)


def _build_history() -> _History:
    """Lay out the fold with the rater's own votes, which are read when it opens."""
    with gr.Accordion(texts.RANK_HISTORY, open=False, elem_id="rank-history") as fold:
        votes = pickable("", elem_id="rank-cast")
    return _History(fold, votes)


def _build_dock(panel: PairPanel) -> _Dock:
    """Lay out the verdicts, what they revealed, the way back, and the way to the next comparison."""
    with gr.Column(elem_classes="tt-dock"):
        outcome = static("", elem_id="rank-outcome")
        with gr.Column(elem_classes=["tt-ballot", "tt-away"]) as ballot:
            strength = gr.Radio(
                list(texts.RANK_STRENGTHS),
                value="",
                label=texts.RANK_STRENGTH,
                elem_id="rank-strength",
                elem_classes="tt-segments",
            )
            lay_verdicts(panel)
        with gr.Column(elem_classes=["tt-ballot", "tt-away"]) as order_ballot:
            order = static("", elem_id="rank-order")
            with gr.Row(elem_classes="tt-verdicts"):
                order_vote = gr.Button(texts.RANK_ORDER_VOTE, variant="primary", elem_id="rank-order-vote")
                all_bad = gr.Button(texts.RANK_ALL_BAD, elem_id="rank-all-bad")
        with gr.Row(elem_classes="tt-rank-bar"):
            tally = static(render.tally(Table(), None), elem_id="rank-tally")
            undo = gr.Button(texts.RANK_UNDO, scale=0, min_width=140, interactive=False, elem_id="rank-undo")
            skip = pickable("", elem_id="rank-skip")
            following = gr.Button(texts.RANK_NEXT, scale=0, min_width=190, elem_id="rank-next")
    return _Dock(
        outcome, ballot, strength, order_ballot, order, order_vote, all_bad, tally, undo, skip, following
    )
