"""Activations are recomputed only where they do not fit, and that changes no gradient."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.errors import OutOfMemory
from align.progress import NoLog, StopSwitch
from align.recipe.activations import layers_to_recompute
from align.recipe.recipe import resolve
from align.run_directory import RunDirectory, RunSpec
from align.training.fused.lora import fuse_lora
from align.training.memory.recomputation import (
    choose_recomputation,
    kept_per_token,
    layers_of,
    recompute_first,
)
from align.training.model import Hardware, add_adapter
from align.training.packed.packed_model import make_packed
from align.training.packed.packing import Tree, pack
from align.training.session import Session
from align.training.texts.data import Row

ROWS = [Row(str(i), Tree(list(range(3, 13)), ([5, 6, 7, 2], [8, 9, 2]))) for i in range(6)]
TOKENS = 17  # of one row, its prompt shared


@pytest.fixture
def model(tiny: Path) -> Any:
    base = AutoModelForCausalLM.from_pretrained(tiny).requires_grad_(False)
    make_packed(base)
    model = add_adapter(base, resolve("dpo", params={"r": 4, "lora_alpha": 8}), None)
    fuse_lora(model)
    return model


def session(tmp_path: Path, **params: Any) -> Session:
    recipe = resolve(
        "dpo", params={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, **params}
    )
    hardware = Hardware("cpu", torch.float32, "adamw_torch", True)
    run = RunDirectory(tmp_path)
    return Session(run, RunSpec("dpo", "m", {}, "s"), recipe, hardware, NoLog(), StopSwitch(run))


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (2000, 0),  # 0.9 of it holds the 1,600 bytes that all layers keep
        (1500, 2),  # 1,350: two layers keep their input alone, 140 bytes less each
        (400, 8),
        (0, 8),  # no room even then: all are recomputed, and memory may run out
    ],
)
def test_as_few_layers_are_recomputed_as_do_not_fit(free: float, expected: int) -> None:
    assert layers_to_recompute(free, kept=160, boundary=6, layers=8, tokens=10) == expected


def test_what_a_model_keeps_is_measured_and_freed_again(model: Any) -> None:
    class Marker:
        pass

    class Marked(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.marker = markers[0]
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
            return upstream[0]

    markers = [Marker()]
    alive = weakref.ref(markers[0])
    hook = layers_of(model)[0].register_forward_hook(lambda module, args, out: Marked.apply(out))
    kept = kept_per_token(model, ROWS)
    hook.remove()
    # 64 wide, 128 within: each of two layers keeps tens of vectors, and not the model's weights
    assert 2 * 64 * 4 * 4 < kept < 2 * 64 * 4 * 60
    markers.clear()
    gc.collect()
    assert alive() is None, "the graph of the measurement is still there"


def test_the_gradient_is_the_same_however_many_layers_are_recomputed(model: Any) -> None:
    batch = pack([row.tree for row in ROWS])
    weights = torch.arange(1.0, 1 + 2 * len(ROWS))
    gradients = []
    for count in (None, 0, 1, 2):
        if count is not None:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            recompute_first(model, count)
            assert [layer.gradient_checkpointing for layer in layers_of(model)] == [count > 0, count > 1]
        model.train()
        (batch.sum_by_answer(model(pack=batch)) * weights).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
    assert len(gradients[0]) == 28
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-5, rtol=1e-5)


def test_a_card_with_room_recomputes_nothing(model: Any, tmp_path: Path) -> None:
    run = session(tmp_path)
    choose_recomputation(run, model, ROWS, 1e9)
    assert run.recomputed == 0
    assert "0 of 2 layers are recomputed" in run.notes[0]


def test_a_card_without_room_recomputes_what_does_not_fit(model: Any, tmp_path: Path) -> None:
    run = session(tmp_path)
    layer = kept_per_token(model, ROWS) * 4 * TOKENS / 2
    fixed = (
        12 * sum(p.numel() for p in model.parameters() if p.requires_grad) + 512 * 64 * 12 + 2 * 64 * 128 * 4
    )
    choose_recomputation(run, model, ROWS, fixed + layer + 1.9 * layer / 0.9)
    assert run.recomputed == 1
    run.recomputed = None
    choose_recomputation(run, model, ROWS, 1000.0)
    assert run.recomputed == 2


@pytest.mark.parametrize("setting", [True, False])
def test_what_a_recipe_says_stays(model: Any, tmp_path: Path, setting: bool) -> None:
    run = session(tmp_path, gradient_checkpointing=setting)
    choose_recomputation(run, model, ROWS, 1e9)
    assert run.recomputed is None


def test_out_of_memory_first_recomputes_all_and_then_halves(model: Any, tmp_path: Path) -> None:
    run = session(tmp_path)
    choose_recomputation(run, model, ROWS, 1e9)
    run.need_less_memory("no room")
    assert (run.recomputed, run.micro_batch) == (None, 4)
    assert "activations of all layers" in run.notes[-1]
    choose_recomputation(run, model, ROWS, 1e9)
    assert run.recomputed is None
    run.need_less_memory("no room")
    run.need_less_memory("no room")
    assert (run.micro_batch, run.accumulation) == (1, 8)
    with pytest.raises(OutOfMemory):
        run.need_less_memory("no room")
