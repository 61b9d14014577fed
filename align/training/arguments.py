"""The arguments of transformers' `Trainer`, from a recipe and what the worker chose for this machine."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from align.training import trackers
from align.training.session import Session

# Fields of a recipe that have the same name and meaning in transformers.
_SAME = (
    "max_steps",
    "num_train_epochs",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "seed",
    "logging_steps",
    "save_steps",
    "save_total_limit",
)
# FSDP 1, because bitsandbytes loses the state of its 4-bit weights in the second step under FSDP 2.
_FSDP: dict[str, Any] = {
    "fsdp": True,
    "fsdp_config": {
        "version": 1,
        "reshard_after_forward": "FULL_SHARD",
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "use_orig_params": False,
        "sync_module_states": False,
        "cpu_ram_efficient_loading": False,
        "state_dict_type": "FULL_STATE_DICT",
    },
}


def training_arguments(session: Session) -> TrainingArguments:
    """Return the arguments for the session's present micro-batch; the same for every method."""
    recipe, hardware = session.recipe, session.hardware
    on_cpu = hardware.device == "cpu"
    sharding = _FSDP if session.sharded else {}
    return TrainingArguments(
        **{name: getattr(recipe, name) for name in _SAME},
        output_dir=str(session.run.checkpoints_dir),
        per_device_train_batch_size=session.micro_batch,
        gradient_accumulation_steps=session.accumulation,
        optim=hardware.optim,
        gradient_checkpointing=hardware.gradient_checkpointing and session.recomputed != 0,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=False,  # the loss computes in autocast itself: see Session.autocast
        use_cpu=on_cpu,
        report_to=list(recipe.report_to),
        project=trackers.PROJECT,
        run_name=session.spec.run_id,
        save_strategy="steps",
        eval_strategy="no",
        logging_first_step=True,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,  # every part of the adapter takes part in every step
        **sharding,
    )
