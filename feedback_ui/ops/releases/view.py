"""Ops, Releases: the table, the leaderboard, new releases, evaluations, lineage."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import form_head
from feedback_ui.listing import picker, static
from feedback_ui.ops import actions
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.releases import render
from feedback_ui.ops.releases import tree as releases_tree
from feedback_ui.ops.releases.comparisons import comparisons
from feedback_ui.part import Part, Update, unchanged


class _ReleaseForm(NamedTuple):
    """The fields and the button of a new release."""

    deployment: gr.Dropdown
    source: gr.Dropdown
    prompt: gr.Textbox
    create: gr.Button


def _build_release_form() -> _ReleaseForm:
    """Lay out the form of a new release."""
    static(form_head(texts.NEW_RELEASE, texts.NEW_RELEASE_HINT))
    with gr.Row():
        deployment = picker(texts.ROLLOUT_DEPLOYMENT, "release-deployment")
        source = picker(texts.NEW_RELEASE_FROM, "release-from")
    prompt = gr.Textbox(label=texts.NEW_RELEASE_PROMPT, lines=4, elem_id="release-prompt")
    create = gr.Button(texts.NEW_RELEASE_CREATE, elem_id="release-create")
    static(command_lines(release_create=texts.NEW_RELEASE_CREATE))
    return _ReleaseForm(deployment, source, prompt, create)


class _EvaluationForm(NamedTuple):
    """The fields and the button of an evaluation."""

    measured: gr.Dropdown
    against: gr.Dropdown
    evaluate: gr.Button


def _build_evaluation_form() -> _EvaluationForm:
    """Lay out the form of an evaluation."""
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.EVALUATE, texts.EVALUATE_HINT))
        with gr.Row():
            measured = picker(texts.ROLLOUT_RELEASE, "eval-release")
            against = picker(texts.EVALUATE_AGAINST, "eval-against")
        evaluate = gr.Button(texts.EVALUATE_START, elem_id="eval-start")
        static(command_lines(eval_start=texts.EVALUATE_START))
    return _EvaluationForm(measured, against, evaluate)


class _WaysForm(NamedTuple):
    """The fields and buttons of searches and comparisons."""

    deployment: gr.Dropdown
    search: gr.Button
    compare: gr.Button
    cancel: gr.Button


def _action(label: str, elem_id: str, **settings: Any) -> gr.Button:
    return gr.Button(label, elem_id=elem_id, min_width=200, scale=0, **settings)


def _build_ways_form() -> _WaysForm:
    """Lay out the form that starts searches and comparisons."""
    static(form_head(texts.WAYS, texts.WAYS_HINT))
    deployment = picker(texts.ROLLOUT_DEPLOYMENT, "ways-deployment")
    with gr.Row(elem_classes="tt-actions"):
        cancel = _action(texts.WAYS_CANCEL, "ways-cancel", variant="stop")
        search = _action(texts.WAYS_START_SEARCH, "ways-search")
        compare = _action(texts.WAYS_START, "ways-compare", variant="primary")
    buttons = {
        "ways_cancel": texts.WAYS_CANCEL, "ways_search": texts.WAYS_START_SEARCH, "ways_compare": texts.WAYS_START,
    }  # fmt: skip
    static(command_lines(**buttons))
    return _WaysForm(deployment, search, compare, cancel)


class _DiffForm(NamedTuple):
    """The fields, the button and the place for what two releases differ in."""

    release: gr.Dropdown
    against: gr.Dropdown
    show: gr.Button
    shown: gr.HTML


def _build_diff_form() -> _DiffForm:
    """Lay out the form that compares the configuration of two releases."""
    static(form_head(texts.DIFF, texts.DIFF_HINT))
    with gr.Row():
        release = picker(texts.ROLLOUT_RELEASE, "diff-release")
        against = picker(texts.DIFF_AGAINST, "diff-against")
    with gr.Row(elem_classes="tt-actions"):
        show = _action(texts.DIFF_SHOW, "release-diff")
    shown = static(releases_tree.difference(None), elem_id="ops-diff")
    static(command_lines(release_diff=texts.DIFF_SHOW))
    return _DiffForm(release, against, show, shown)


def build_releases(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    table = static(elem_id="ops-releases")
    board = static(elem_id="ops-leaderboard")
    with gr.Row(elem_classes="tt-columns"):
        with gr.Column(min_width=320), gr.Group(elem_classes="tt-form"):
            form = _build_release_form()
        with gr.Column(min_width=320):
            evaluation = _build_evaluation_form()
            evaluations = static(elem_id="ops-evaluations")
    with gr.Group(elem_classes="tt-form"):
        ways = _build_ways_form()
    compared_before = static(elem_id="ops-comparisons")
    branches = static(elem_id="ops-release-tree")
    with gr.Group(elem_classes="tt-form"):
        diff = _build_diff_form()
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.LINEAGE))
        traced = picker(texts.ROLLOUT_RELEASE, "lineage-release")
        tree = static(render.lineage(None), elem_id="ops-lineage")

    async def refresh(request: gr.Request) -> Update:
        """Show releases, ranking and evaluations as they are now."""
        with toasts():
            async with connection.client(request) as client:
                if not await actions.may_operate(client):
                    return unchanged()
                now = await actions.standing(client)
        names = [row["name"] for row in now.releases]
        chosen = {"release": names[:1], "against": names[1:2]}
        deployments = list(dict.fromkeys(row["deployment"] for row in now.releases))
        stable = next((row["name"] for row in now.releases if row.get("lane") == "stable"), None)
        newest = next(iter(names), None)
        adapters = [(texts.NEW_RELEASE_STABLE, ""), (texts.NEW_RELEASE_BASE, actions.NO_ADAPTER)]
        return {
            table: render.releases(now.releases),
            board: render.leaderboard(now.leaderboard),
            evaluations: render.evaluations(now.evaluations),
            compared_before: comparisons(now.comparisons),
            ways.deployment: gr.Dropdown(deployments, value=next(iter(deployments), None)),
            form.deployment: gr.Dropdown(deployments, value=next(iter(deployments), None)),
            form.source: gr.Dropdown([*adapters, *((n, n) for n in names)], value=""),
            evaluation.measured: gr.Dropdown(names, value=newest),
            evaluation.against: gr.Dropdown(
                [(texts.EVALUATE_ALONE, ""), *((n, n) for n in names)],
                value="" if stable == newest else stable,
            ),
            traced: gr.Dropdown(names, value=None),
            branches: releases_tree.tree(now.branches, now.releases),
            diff.release: gr.Dropdown(names, value=next(iter(chosen["release"]), None)),
            diff.against: gr.Dropdown(names, value=next(iter(chosen["against"]), None)),
        }

    async def on_create(name: str, text: str, adapter_of: str, request: gr.Request) -> Update:
        """Make a release from a system prompt."""
        with toasts():
            async with connection.client(request) as client:
                made = await actions.create_release(client, name, text or "", adapter_of or None)
        gr.Info(texts.NEW_RELEASE_MADE.format(name=made["name"]))
        return {**await refresh(request), form.prompt: ""}

    async def on_evaluate(name: str, other: str, request: gr.Request) -> Update:
        """Queue an evaluation."""
        with toasts():
            async with connection.client(request) as client:
                await actions.evaluate(client, name, other or None)
        return await refresh(request)

    async def on_search(name: str, request: gr.Request) -> Update:
        """Search for the best prompt by held-out votes."""
        with toasts():
            async with connection.client(request) as client:
                await client.rollout.search_prompts(name)
        gr.Info(texts.WAYS_QUEUED)
        return await refresh(request)

    async def on_compare(name: str, request: gr.Request) -> Update:
        """Compare the newest releases of each kind."""
        with toasts():
            async with connection.client(request) as client:
                await client.rollout.compare_releases(name)
        gr.Info(texts.WAYS_QUEUED)
        return await refresh(request)

    async def on_cancel(request: gr.Request) -> Update:
        """Cancel the searches and comparisons that are under way."""
        with toasts():
            async with connection.client(request) as client:
                count = await actions.cancel_comparisons(client)
        gr.Info(texts.WAYS_CANCELLED.format(count=count))
        return await refresh(request)

    async def on_trace(name: str | None, request: gr.Request) -> str:
        """Show what trained a release."""
        if not name:
            return render.lineage(None)
        with toasts():
            async with connection.client(request) as client:
                return render.lineage(await actions.lineage(client, name))

    async def on_diff(name: str | None, other: str | None, request: gr.Request) -> str:
        """Show what changes from one release to another."""
        if not name or not other:
            return releases_tree.difference(None)
        with toasts():
            async with connection.client(request) as client:
                return releases_tree.difference(await actions.difference(client, name, other))

    screen = [
        table, board, evaluations, form.deployment, form.source, form.prompt, evaluation.measured,
        evaluation.against, traced, compared_before, ways.deployment, branches, diff.release, diff.against,
    ]  # fmt: skip
    described = [form.deployment, form.prompt, form.source]
    form.create.click(on_create, described, screen, api_name="create_release", show_progress="hidden")
    compared = [evaluation.measured, evaluation.against]
    evaluation.evaluate.click(on_evaluate, compared, screen, api_name="evaluate", show_progress="hidden")
    named = [ways.deployment]
    ways.search.click(on_search, named, screen, api_name="search_prompts", show_progress="hidden")
    ways.compare.click(on_compare, named, screen, api_name="compare_releases", show_progress="hidden")
    ways.cancel.click(on_cancel, None, screen, api_name="cancel_comparisons", show_progress="hidden")
    picked = [diff.release, diff.against]
    diff.show.click(on_diff, picked, [diff.shown], api_name="release_diff", show_progress="hidden")
    traced.input(on_trace, [traced], [tree], api_name="lineage", show_progress="hidden")
    return Part(refresh, screen)
