"""Ops, Training: the Retrain form, the run that is watched, and all runs."""

from __future__ import annotations

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import form_head
from feedback_ui.listing import pickable, static
from feedback_ui.numbers import optional_float, optional_int
from feedback_ui.ops import actions as ops
from feedback_ui.ops.training import actions, render
from feedback_ui.ops.training.actions import Request
from feedback_ui.part import Part, Update


def build_training(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    watched = gr.State(None)
    with gr.Row(elem_classes="tt-columns"):
        with gr.Column(scale=2, min_width=320), gr.Group(elem_classes="tt-form"):
            static(form_head(texts.TRAIN, texts.TRAIN_HINT))
            method = gr.Radio(
                list(texts.TRAIN_METHODS), value="dpo", label=texts.TRAIN_METHOD, elem_id="train-method"
            )
            qlora = gr.Radio(
                list(texts.TRAIN_PRECISIONS),
                value=False,
                label=texts.TRAIN_PRECISION,
                elem_id="train-precision",
            )
            recipe = gr.Dropdown(
                [(texts.TRAIN_RECIPE_NONE, "")],
                value="",
                allow_custom_value=True,
                label=texts.TRAIN_RECIPE,
                info=texts.TRAIN_RECIPE_INFO,
                elem_id="train-recipe",
            )
            with gr.Row():
                deployment = gr.Dropdown(
                    [],
                    allow_custom_value=True,
                    label=texts.ROLLOUT_DEPLOYMENT,
                    elem_id="train-deployment",
                )
                rollout = gr.Dropdown(
                    list(texts.TRAIN_ROLLOUTS),
                    value="canary",
                    label=texts.TRAIN_ROLLOUT,
                    elem_id="train-rollout",
                )
            with gr.Row():
                steps = gr.Textbox(
                    label=texts.TRAIN_STEPS,
                    placeholder=texts.TRAIN_DEFAULT,
                    min_width=120,
                    elem_id="train-steps",
                )
                rate = gr.Textbox(
                    label=texts.TRAIN_RATE,
                    placeholder=texts.TRAIN_DEFAULT,
                    min_width=120,
                    elem_id="train-rate",
                )
                beta = gr.Textbox(
                    label=texts.TRAIN_BETA,
                    placeholder=texts.TRAIN_DEFAULT,
                    min_width=120,
                    elem_id="train-beta",
                )
            with gr.Accordion(texts.TRAIN_ADVANCED, open=False, elem_id="train-more"):
                with gr.Row():
                    rank = gr.Textbox(
                        label=texts.TRAIN_RANK,
                        placeholder=texts.TRAIN_DEFAULT,
                        min_width=120,
                        elem_id="train-rank",
                    )
                    gate = gr.Dropdown(
                        list(texts.TRAIN_GATES),
                        value="enforce",
                        label=texts.TRAIN_GATE,
                        elem_id="train-gate",
                        min_width=120,
                    )
                    begin = gr.Dropdown(
                        list(texts.TRAIN_BEGINS),
                        value="stable",
                        label=texts.TRAIN_BEGIN,
                        elem_id="train-begin",
                        min_width=120,
                    )
                extra = gr.Textbox(
                    label=texts.TRAIN_EXTRA, info=texts.TRAIN_EXTRA_INFO, lines=3, elem_id="train-extra"
                )
            with gr.Row(elem_classes="tt-actions"):
                plan = gr.Button(texts.TRAIN_PLAN, elem_id="train-plan", min_width=120, scale=0)
                start = gr.Button(texts.TRAIN_START, variant="primary", elem_id="train-start", min_width=160)
            planned = static(elem_id="train-planned")
        with gr.Column(scale=3, min_width=340, elem_classes="tt-watch"):
            progress = static(elem_id="run-progress")
            with gr.Row(elem_classes="tt-plots"):
                loss = gr.LinePlot(
                    x="step", y="value", label=texts.LOSS_PLOT, height=210, buttons=[], elem_id="plot-loss",
                    x_title="step", y_title=" ", min_width=240, visible=False,
                )  # fmt: skip
                margin = gr.LinePlot(
                    x="step", y="value", label=texts.MARGIN_PLOT, height=210, buttons=[], elem_id="plot-margin",
                    x_title="step", y_title=" ", min_width=240, visible=False,
                )  # fmt: skip
            with gr.Row(elem_classes="tt-actions"):
                cancel = gr.Button(
                    texts.TRAIN_CANCEL,
                    variant="stop",
                    visible=False,
                    elem_id="run-cancel",
                    min_width=140,
                    scale=0,
                )
                resume = gr.Button(
                    texts.TRAIN_RESUME, visible=False, elem_id="run-resume", min_width=140, scale=0
                )
    table = pickable(elem_id="ops-runs")
    drawn = gr.State(None)

    async def refresh(
        name: str | None, picked: str | None, before: tuple | None, request: gr.Request
    ) -> Update:
        """Show the watched run (the newest until one is picked), its plots, and the table of runs."""
        with toasts():
            async with connection.client(request) as client:
                if not await ops.may_operate(client):
                    return {}
                followed = await actions.follow(client, picked)
                runs = list(await client.runs.list(limit=30))
                names = [row["name"] for row in await client.rollout.deployments()]
        shown = name if name in names else next(iter(names), None)
        update = {
            progress: render.progress(followed),
            table: render.runs(runs, followed.run["id"] if followed else None),
            cancel: gr.Button(visible=bool(followed and followed.working)),
            resume: gr.Button(visible=bool(followed and followed.resumable)),
        }
        if name != shown or name is None:
            update[deployment] = gr.Dropdown(names, value=shown)
            update[recipe] = await offered("dpo", request)
        # A plot is redrawn only when it has a new point: redrawing each tick would flicker.
        mark = (followed.run["id"], len(followed.rows)) if followed else None
        if mark != before:
            update |= plots(followed.rows if followed else []) | {drawn: mark}
        return update

    def plots(rows: list[dict]) -> Update:
        losses, found = actions.curve(rows, "loss")
        margins, name = actions.curve(rows, "rewards/margins", "mean_token_accuracy")
        second = texts.ACCURACY_PLOT if name == "mean_token_accuracy" else texts.MARGIN_PLOT
        return {
            loss: gr.LinePlot(losses, visible=found is not None),
            margin: gr.LinePlot(margins, label=second, visible=name is not None),
        }

    async def offered(kind: str, request: gr.Request) -> gr.Dropdown:
        """The recipes of a method."""
        async with connection.client(request) as client:
            choices = await actions.recipes(client, kind)
        return gr.Dropdown([(texts.TRAIN_RECIPE_NONE, ""), *choices], value="")

    async def on_method(kind: str, request: gr.Request) -> Update:
        """Offer what the method has."""
        with toasts():
            return {recipe: await offered(kind, request), beta: gr.Textbox(visible=kind != "sft")}

    async def on_start(
        kind: str,
        four_bit: bool,
        name: str,
        then: str,
        gating: str,
        going_on: str,
        step_count: str,
        learning_rate: str,
        dpo_beta: str,
        lora_rank: str,
        more: str,
        named: str,
        request: gr.Request,
    ) -> Update:
        """Queue the run that the form describes and watch it."""
        filled = (kind, four_bit, name, then, gating, going_on, step_count, learning_rate, dpo_beta)
        with toasts():
            wanted = asked(dict(zip(form, (*filled, lora_rank, more, named), strict=True)))
            async with connection.client(request) as client:
                run = await actions.start(client, wanted)
        gr.Info(texts.TRAIN_QUEUED.format(id=run["id"]))
        return {**await refresh(name, run["id"], None, request), watched: run["id"], planned: ""}

    def asked(filled: dict) -> Request:
        """What the form describes."""
        return Request(
            method=filled[method],
            deployment=filled[deployment],
            qlora=bool(filled[qlora]),
            rollout=filled[rollout],
            gate=filled[gate],
            start=filled[begin],
            recipe=filled[recipe] or None,
            max_steps=optional_int(filled[steps], texts.TRAIN_STEPS),
            learning_rate=optional_float(filled[rate], texts.TRAIN_RATE),
            beta=optional_float(filled[beta], texts.TRAIN_BETA),
            r=optional_int(filled[rank], texts.TRAIN_RANK),
            extra=filled[extra] or "",
        )

    async def on_plan(filled: dict, request: gr.Request) -> Update:
        """Show what the run that the form describes would need."""
        with toasts():
            wanted = asked(filled)
            async with connection.client(request) as client:
                return {planned: render.plan(await actions.plan(client, wanted))}

    async def on_pick(name: str | None, event: gr.EventData, request: gr.Request) -> Update:
        """Watch the run that was clicked."""
        return {**await refresh(name, str(event.id), None, request), watched: str(event.id)}

    async def on_cancel(name: str | None, picked: str | None, request: gr.Request) -> Update:
        """Cancel the watched run."""
        with toasts():
            async with connection.client(request) as client:
                followed = await actions.follow(client, picked)
                if followed:
                    await actions.cancel(client, followed.run["id"])
        return await refresh(name, picked, None, request)

    async def on_resume(name: str | None, picked: str | None, request: gr.Request) -> Update:
        """Take the watched run up again."""
        with toasts():
            async with connection.client(request) as client:
                followed = await actions.follow(client, picked)
                if followed:
                    await actions.resume(client, followed.run["id"])
        return await refresh(name, picked, None, request)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    screen = [progress, loss, margin, cancel, resume, table, deployment, recipe, drawn, watched]
    form = [method, qlora, deployment, rollout, gate, begin, steps, rate, beta, rank, extra, recipe]
    start.click(on_start, form, [*screen, planned], api_name="retrain", show_progress="hidden")
    plan.click(on_plan, set(form), [planned], show_progress="minimal", api_visibility="private")
    table.click(on_pick, [deployment], screen, **quiet)
    cancel.click(on_cancel, [deployment, watched], screen, **quiet)
    resume.click(on_resume, [deployment, watched], screen, **quiet)
    method.change(on_method, [method], [recipe, beta], **quiet)
    return Part(refresh, screen, [deployment, watched, drawn])
