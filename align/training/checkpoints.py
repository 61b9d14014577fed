"""Checkpoints: complete or removed, of one process or of several that hold shards."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin, PartialState
from safetensors.torch import save_file
from transformers import Trainer

from align.run_directory import ADAPTER_WEIGHTS, COMPLETE, RunDirectory
from align.training.distributed import shards
from align.training.distributed.process_group import ProcessGroup


def random_state() -> Any:
    """Return the state of every random generator that training draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def restore_random_state(state: Any) -> None:
    """Restore what `random_state` returned."""
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
    if state[3] is not None:
        torch.cuda.set_rng_state_all(state[3])


def clean_checkpoints(run: RunDirectory) -> None:
    """Remove checkpoints that a killed worker left incomplete."""
    whole = set(run.checkpoints())
    for path in run.checkpoints_dir.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)


def mark_complete(group: ProcessGroup, checkpoint: Path) -> None:
    """Mark a checkpoint complete once every process has written its part."""
    group.barrier()
    if group.is_main:
        (checkpoint / COMPLETE).touch()
    group.barrier()


class CheckpointTrainer(Trainer):
    """transformers' `Trainer` with checkpoints on demand, and FSDP on the CPU too, which accelerate leaves to GPUs."""

    def create_accelerator_and_postprocess(self) -> None:
        """Limit the accelerator to one card, and shard the model on the CPU too, over gloo."""
        args: Any = self.args
        args._n_gpu = min(args.n_gpu, 1)  # one process, one card: transformers would take all that it sees
        if args.fsdp and args.use_cpu:
            plugin = FullyShardedDataParallelPlugin(**args.fsdp_plugin_args)
            PartialState()._shared_state.update(
                distributed_type=DistributedType.FSDP, device=torch.device("cpu")
            )
            state = Accelerator(cpu=True, mixed_precision="no", fsdp_plugin=plugin).state
            state._shared_state["fsdp_plugin"] = plugin
        super().create_accelerator_and_postprocess()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter of a checkpoint, complete even when the model is in shards."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        adapter = shards.whole_adapter(self.model_wrapped)
        if self.args.should_save:
            self.model.peft_config["default"].save_pretrained(output_dir)
            save_file(adapter, Path(str(output_dir)) / ADAPTER_WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        rank = self.args.process_index
        shards.save_shard(Path(output_dir), rank, self.model_wrapped, self.optimizer, self.lr_scheduler)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        elif model is not None:  # called once before the model is in shards and once after
            shards.load_parameters(Path(resume_from_checkpoint), self.args.process_index, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        rank = self.args.process_index
        shards.load_optimizer(Path(checkpoint), rank, self.optimizer, self.lr_scheduler)

    def save_state_now(self, group: ProcessGroup) -> None:
        """Write a complete checkpoint of the last finished step, unless there is one."""
        target = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if not (target / COMPLETE).exists():
            self._save_checkpoint(self.model, None)
            mark_complete(group, target)
