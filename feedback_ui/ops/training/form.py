"""The Retrain form: its fields, their layout, and the request that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.html import form_head
from feedback_ui.listing import picker, static
from feedback_ui.numbers import optional_float, optional_int
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.training.actions import Request


@dataclass(frozen=True)
class Fields:
    """The inputs of the form, in the order of the endpoint `retrain`: Gradio sorts a set of inputs by creation."""

    method: gr.Radio
    qlora: gr.Radio
    deployment: gr.Dropdown
    rollout: gr.Dropdown
    gate: gr.Dropdown
    begin: gr.Dropdown
    steps: gr.Textbox
    rate: gr.Textbox
    beta: gr.Textbox
    rank: gr.Textbox
    extra: gr.Textbox
    recipe: gr.Dropdown

    def inputs(self) -> set[Any]:
        """Return all fields: a handler of a set of inputs gets their values by component."""
        return {getattr(self, field.name) for field in fields(self)}

    def request(self, filled: Mapping[Any, Any]) -> Request:
        """Read the run that is asked for; raises `ApiError` (422) for a number that is none."""
        return Request(
            method=filled[self.method],
            deployment=filled[self.deployment],
            qlora=bool(filled[self.qlora]),
            rollout=filled[self.rollout],
            gate=filled[self.gate],
            start=filled[self.begin],
            recipe=filled[self.recipe] or None,
            max_steps=optional_int(filled[self.steps], texts.TRAIN_STEPS),
            learning_rate=optional_float(filled[self.rate], texts.TRAIN_RATE),
            beta=optional_float(filled[self.beta], texts.TRAIN_BETA),
            r=optional_int(filled[self.rank], texts.TRAIN_RANK),
            extra=filled[self.extra] or "",
        )


@dataclass(frozen=True)
class RetrainForm:
    """The form with its buttons, and the place of a plan."""

    fields: Fields
    plan: gr.Button
    start: gr.Button
    planned: gr.HTML


def build_form() -> RetrainForm:
    """Lay out the form."""
    made = _fields()
    static(form_head(texts.TRAIN, texts.TRAIN_HINT))
    for field in (made.method, made.qlora, made.recipe):
        field.render()
    _row(made.deployment, made.rollout)
    _row(made.steps, made.rate, made.beta)
    with gr.Accordion(texts.TRAIN_ADVANCED, open=False, elem_id="train-more"):
        _row(made.rank, made.gate, made.begin)
        made.extra.render()
    with gr.Row(elem_classes="tt-actions"):
        plan = gr.Button(texts.TRAIN_PLAN, elem_id="train-plan", min_width=120, scale=0)
        start = gr.Button(texts.TRAIN_START, variant="primary", elem_id="train-start", min_width=160)
    static(command_lines(train_plan=texts.TRAIN_PLAN, train_start=texts.TRAIN_START))
    return RetrainForm(made, plan, start, static(elem_id="train-planned"))


def _row(*parts: Any) -> None:
    with gr.Row():
        for part in parts:
            part.render()


def _fields() -> Fields:
    """Create the fields in the order of `Fields`; the layout renders them."""
    return Fields(
        method=_radio(texts.TRAIN_METHODS, "dpo", texts.TRAIN_METHOD, "train-method"),
        qlora=_radio(texts.TRAIN_PRECISIONS, False, texts.TRAIN_PRECISION, "train-precision"),
        deployment=picker(texts.ROLLOUT_DEPLOYMENT, "train-deployment", render=False),
        rollout=gr.Dropdown(
            list(texts.TRAIN_ROLLOUTS),
            value="canary",
            label=texts.TRAIN_ROLLOUT,
            elem_id="train-rollout",
            render=False,
        ),
        gate=_choice(texts.TRAIN_GATES, "enforce", texts.TRAIN_GATE, "train-gate"),
        begin=_choice(texts.TRAIN_BEGINS, "auto", texts.TRAIN_BEGIN, "train-begin"),
        steps=_number(texts.TRAIN_STEPS, "train-steps"),
        rate=_number(texts.TRAIN_RATE, "train-rate"),
        beta=_number(texts.TRAIN_BETA, "train-beta"),
        rank=_number(texts.TRAIN_RANK, "train-rank"),
        extra=gr.Textbox(
            label=texts.TRAIN_EXTRA,
            info=texts.TRAIN_EXTRA_INFO,
            lines=3,
            elem_id="train-extra",
            render=False,
        ),
        recipe=gr.Dropdown(
            [(texts.TRAIN_RECIPE_NONE, "")],
            value="",
            allow_custom_value=True,
            label=texts.TRAIN_RECIPE,
            info=texts.TRAIN_RECIPE_INFO,
            elem_id="train-recipe",
            render=False,
        ),
    )


def _radio(choices: Any, value: object, label: str, elem_id: str) -> gr.Radio:
    return gr.Radio(list(choices), value=value, label=label, elem_id=elem_id, render=False)


def _choice(choices: Any, value: str, label: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(list(choices), value=value, label=label, elem_id=elem_id, min_width=120, render=False)


def _number(label: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox(
        label=label, placeholder=texts.TRAIN_DEFAULT, min_width=120, elem_id=elem_id, render=False
    )
