"""Our trainers and plain TRL take the same steps: same data, same seed, several optimiser steps, each loss
compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from align_helpers import demonstrations, in_process, pairs
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from align.recipe.recipe import Recipe, resolve
from align.run_directory import RunDirectory
from align.training.model import lora_config

STEPS = 4
COMMON: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_length": 40,
    "learning_rate": 5e-3,
    "warmup_steps": 0,
    "r": 4,
    "lora_alpha": 32,
    "seed": 7,
}


def trl_arguments(recipe: Recipe, out: Path) -> dict[str, Any]:
    names = ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "seed")
    more = ("learning_rate", "lr_scheduler_type", "warmup_steps", "max_grad_norm")
    return {
        **{n: getattr(recipe, n) for n in (*names, *more)},
        "output_dir": str(out),
        "logging_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
    }


def plain_losses(trainer: Any) -> list[float]:
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def our_losses(run: RunDirectory) -> list[float]:
    assert in_process(run) == 0, run.error()
    return [row["loss"] for row in run.progress() if row["kind"] == "step"]


def adapter_on(tiny: Path, recipe: Recipe) -> PeftModel:
    torch.manual_seed(recipe.seed)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), lora_config(recipe))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"share_prompt": False},
        {"packing": False},
        {"loss_type": ["ipo"], "beta": 0.5},
        {"loss_type": ["hinge", "sft"], "loss_weights": [1.0, 0.3]},
        {"loss_type": ["robust"], "label_smoothing": 0.2},
        {"loss_type": ["exo_pair"], "label_smoothing": 0.1},
        {"loss_type": ["nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "sigmoid_norm"]},
    ],
    ids=["sigmoid", "unshared", "padded", "ipo", "hinge+sft", "robust", "exo", "all-others"],
)
def test_dpo_takes_trls_steps(
    params: dict[str, Any], make_run: Callable[..., RunDirectory], tiny: Path, tmp_path: Path
) -> None:
    params = {**COMMON, "beta": 0.1, **params}
    recipe = resolve("dpo", params=params)
    rows = pairs(16, seed=3)
    data = [
        {
            "prompt": row["prompt"],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]
    # The first adapter is the start of both, made not to be zero, so that the reference matters.
    start = adapter_on(tiny, recipe)
    for name, parameter in start.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    start.save_pretrained(tmp_path / "start")

    run = make_run("dpo", params, train=rows, start_adapter=str(tmp_path / "start"))
    ours = our_losses(run)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny), str(tmp_path / "start"), is_trainable=True
    )
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            **trl_arguments(recipe, tmp_path / "trl"),
            beta=recipe.beta,
            loss_type=list(recipe.loss_type),
            loss_weights=list(recipe.loss_weights) if recipe.loss_weights else None,
            label_smoothing=recipe.label_smoothing,
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )
    theirs = plain_losses(trainer)
    assert len(ours) == STEPS
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=2e-4, rtol=2e-4)


def test_sft_takes_trls_steps(make_run: Callable[..., RunDirectory], tiny: Path, tmp_path: Path) -> None:
    recipe = resolve("sft", params=COMMON)
    rows = demonstrations(16, seed=3)
    ours = our_losses(make_run("sft", COMMON, train=rows))
    data = [
        {"prompt": r["prompt"], "completion": [{"role": "assistant", "content": r["completion"]}]}
        for r in rows
    ]
    trainer = SFTTrainer(
        model=adapter_on(tiny, recipe),
        args=SFTConfig(**trl_arguments(recipe, tmp_path / "trl"), completion_only_loss=True),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )
    theirs = plain_losses(trainer)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=2e-4, rtol=2e-4)
