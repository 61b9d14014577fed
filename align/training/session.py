"""What one training run holds while it runs, and the parts that every method shares: arguments, callback,
loop.

The methods differ in `align.training.methods.dpo`, `align.training.methods.sft`; control flow that must be the
same for all (how a step is
interrupted, what a checkpoint needs to be whole, what happens when memory runs out) is here, once.
"""

from __future__ import annotations

import gc
import math
import random
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin, PartialState
from safetensors.torch import save_file
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import set_seed

from align.errors import DiskFull, Diverged, OutOfMemory, Stopped
from align.progress import ProgressLog, StopSwitch
from align.recipe.recipe import Recipe
from align.run_directory import COMPLETE, RunDirectory, RunSpec
from align.training import trackers
from align.training.data import Row
from align.training.distributed import shards
from align.training.distributed.process_group import Crew
from align.training.model import Hardware

# A loss so many times the median of the first few (at least 1) has exploded: it will not come back.
EXPLODED = 100.0
EXPLODE_AFTER = 5
HINT_MEMORY = "lower max_length, set gradient_checkpointing = true, or use QLoRA"


@dataclass
class Session:
    """One run in one process. `micro_batch` and `accumulation` start as the recipe's and change when memory
    runs out."""

    run: RunDirectory
    spec: RunSpec
    recipe: Recipe
    hardware: Hardware
    log: ProgressLog
    stop: StopSwitch
    micro_batch: int = 0
    accumulation: int = 0
    notes: list[str] = field(default_factory=list)
    crew: Crew = field(default_factory=Crew)

    def __post_init__(self) -> None:
        self.micro_batch = self.micro_batch or self.recipe.per_device_train_batch_size
        self.accumulation = self.accumulation or self.recipe.gradient_accumulation_steps

    def note(self, message: str) -> None:
        """Record something for the report and the reader of the progress."""
        self.notes.append(message)
        self.log.note(message)

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the model (FSDP)."""
        return self.crew.together and bool(self.recipe.distributed == "fsdp")

    def check_stop(self) -> None:
        """Raise `Stopped` if any of the processes was asked to stop: all of them raise it at the same point."""
        if self.crew.any(self.stop.requested):
            raise Stopped("asked to stop")

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the recipe's type; in float32 nothing is cast.

        Without a cache: autocast's would hold a second copy of every adapter weight until the step's end.
        """
        if self.hardware.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.hardware.device, dtype=self.hardware.dtype, cache_enabled=False)

    def halve_micro_batch(self, why: str) -> None:
        """Train with half the micro-batch and double the accumulation. Raises `OutOfMemory` when it is one
        row."""
        if self.micro_batch == 1:
            raise OutOfMemory(
                f"one row does not fit ({why})",
                HINT_MEMORY,
            )
        self.accumulation *= 2 if self.micro_batch % 2 == 0 else self.micro_batch
        self.micro_batch = self.micro_batch // 2 if self.micro_batch % 2 == 0 else 1
        self.note(f"out of memory: going on with {self.micro_batch} rows x {self.accumulation} accumulated")


def arguments(session: Session) -> dict[str, Any]:
    """Return what all trainers' configurations have in common, in transformers' own names."""
    recipe, hardware = session.recipe, session.hardware
    on_cpu = hardware.device == "cpu"
    names = (
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
        "max_length",
        "seed",
        "logging_steps",
        "save_steps",
        "save_total_limit",
    )
    return {
        **{name: getattr(recipe, name) for name in names},
        "output_dir": str(session.run.checkpoints_dir),
        "per_device_train_batch_size": session.micro_batch,
        "gradient_accumulation_steps": session.accumulation,
        "optim": hardware.optim,
        "gradient_checkpointing": hardware.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": False,  # the loss computes in autocast itself: see Session.autocast
        "use_cpu": on_cpu,
        "report_to": list(recipe.report_to),
        "project": trackers.PROJECT,
        "run_name": session.spec.run_id,
        "save_strategy": "steps",
        "eval_strategy": "no",
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": not on_cpu,
        "disable_tqdm": True,
        "disable_dropout": False,
        "ddp_find_unused_parameters": False,  # every part of the adapter takes part in every step
        **(_FULLY_SHARDED if session.sharded else {}),
    }


# FSDP 1, because bitsandbytes loses the state of its 4-bit weights in the second step under FSDP 2.
_FULLY_SHARDED: dict[str, Any] = {
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


class Watch(TrainerCallback):
    """Reports steps, marks whole checkpoints, and lets a request to stop through only where it does no
    harm."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rows_seen = 0
        self.tokens_seen = 0
        self.history: list[dict[str, Any]] = []
        self.rng: Any = None
        self._first_losses: list[float] = []
        self._began = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._first = state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember the random state, so that a step that is broken off can be run again as it would have
        been."""
        self.rng = random_state()
        # One of several must not leave the others waiting in the middle of a step.
        self.session.stop.busy = self.session.crew.together
        self.session.check_stop()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let a request to stop through between two micro-batches."""
        if self.session.crew.together:
            self.session.check_stop()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here to the next step's begin, weights, optimiser and checkpoint change together."""
        self.session.stop.busy = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave a checkpoint at the end and when asked to stop."""
        requested = self.session.crew.any(self.session.stop.requested)
        if state.global_step >= state.max_steps or requested:
            control.should_save = True
        if requested:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint whole."""
        mark_whole(self.session.crew, Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def count(self, rows: float, tokens: float) -> None:
        """Add what a micro-batch held, in all processes."""
        both = self.session.crew.sum(torch.tensor([rows, tokens], dtype=torch.float64))
        self.rows_seen += int(both[0])
        self.tokens_seen += int(both[1])

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write a row of metrics; raise `Diverged` when the loss or the gradient is not finite."""
        logs = dict(logs or {})
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise diverged(f"{name} is {logs[name]} at step {state.global_step}")
        self._first_losses = [*self._first_losses, float(logs["loss"])][:EXPLODE_AFTER]
        usual = max(1.0, sorted(self._first_losses)[len(self._first_losses) // 2])
        if len(self._first_losses) == EXPLODE_AFTER and logs["loss"] > EXPLODED * usual:
            raise diverged(
                f"the loss is {logs['loss']:.4g} at step {state.global_step}; it began at {usual:.4g}"
            )
        seconds = time.monotonic() - self._began
        steps = max(1, state.global_step - self._first)
        row = {
            "step": state.global_step,
            "total_steps": state.max_steps,
            **{k: float(v) for k, v in logs.items() if isinstance(v, int | float)},
            "tokens_per_second": self.tokens_seen / seconds,
            "rows_per_second": self.rows_seen / seconds,
            "seconds_left": seconds / steps * (state.max_steps - state.global_step),
            "memory_bytes": peak_memory(),
        }
        self.history.append(row)
        self.session.log.write("step", **row)


def diverged(what: str) -> Diverged:
    """Return the error for a training that went off."""
    return Diverged(what, "lower learning_rate or max_grad_norm; the last good checkpoint is kept")


def random_state() -> Any:
    """Return the state of every random generator that training draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def restore_random_state(state: Any) -> None:
    """Put back what `random_state` returned."""
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
    if state[3] is not None:
        torch.cuda.set_rng_state_all(state[3])


def peak_memory() -> int:
    """Peak memory in bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def train(
    session: Session, build: Callable[[Watch], Trainer], model: torch.nn.Module
) -> tuple[Trainer, Watch]:
    """Train from the newest whole checkpoint to the end and return the trainer.

    `build` makes a trainer for the session's present micro-batch. When memory runs out the micro-batch is
    halved and training goes on from the last checkpoint. Raises `Stopped` (a checkpoint was left),
    `Diverged`, `OutOfMemory`, `DiskFull`.
    """
    initial = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if p.requires_grad}
    while True:
        watch = Watch(session)
        session.crew.wait()
        if session.crew.first:
            clean_checkpoints(session.run)
        session.crew.wait()
        checkpoints = session.run.checkpoints()
        set_seed(session.recipe.seed)
        trainer = build(watch)
        if checkpoints:
            session.note(f"resuming from {checkpoints[-1].name}")
        try:
            trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
        except Stopped:
            session.stop.busy = True
            if watch.rng is not None and trainer.state.global_step:
                restore_random_state(watch.rng)
                trainer.save_state_now()
            raise
        except (torch.OutOfMemoryError, MemoryError) as error:
            why = str(error).partition("\n")[0]
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            why = str(error).partition("\n")[0]
        except OSError as error:
            if error.errno == 28:
                raise DiskFull(
                    str(error), "free some space; the run goes on from its last checkpoint"
                ) from error
            raise
        else:
            session.stop.busy = False
            session.check_stop()
            return trainer, watch
        # Out of the except block, so that the failed step's tensors are no longer held by its traceback.
        del trainer
        if session.crew.together:
            raise OutOfMemory(f"{session.micro_batch} rows a process do not fit ({why})", HINT_MEMORY)
        session.halve_micro_batch(why)
        for name, parameter in model.named_parameters():
            if name in initial:
                parameter.data.copy_(initial[name])
                parameter.grad = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def clean_checkpoints(run: RunDirectory) -> None:
    """Remove checkpoints that a kill left half-written."""
    whole = set(run.checkpoints())
    for path in run.checkpoints_dir.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)


def mark_whole(crew: Crew, checkpoint: Path) -> None:
    """Say that a checkpoint is whole, once every process has written its part."""
    crew.wait()
    if crew.first:
        (checkpoint / COMPLETE).touch()
    crew.wait()


class CheckpointMixin:
    """For TRL's trainers: checkpoints without a model card (ours is written once, at the end), and one on
    demand; FSDP on the CPU too, which accelerate leaves to GPUs."""

    def create_accelerator_and_postprocess(self) -> None:
        """Let the accelerator take one card, and shard the model on the CPU too, over gloo."""
        args = cast(Any, self).args
        args._n_gpu = min(args.n_gpu, 1)  # one process, one card: transformers would take all that it sees
        if args.fsdp and args.use_cpu:
            plugin = FullyShardedDataParallelPlugin(**args.fsdp_plugin_args)
            PartialState()._shared_state.update(
                distributed_type=DistributedType.FSDP, device=torch.device("cpu")
            )
            state = Accelerator(cpu=True, mixed_precision="no", fsdp_plugin=plugin).state
            state._shared_state["fsdp_plugin"] = plugin
        Trainer.create_accelerator_and_postprocess(self)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        Trainer._save_checkpoint(self, model, trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter of a checkpoint, whole even when the model is in shards."""
        trainer: Any = self
        if not trainer.is_fsdp_enabled:
            Trainer.save_model(trainer, output_dir, _internal_call)
            return
        adapter = shards.whole_adapter(trainer.model_wrapped)
        if trainer.args.should_save:
            trainer.model.peft_config["default"].save_pretrained(output_dir)
            save_file(adapter, Path(str(output_dir)) / "adapter_model.safetensors")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        trainer: Any = self
        if not trainer.is_fsdp_enabled:
            Trainer._save_optimizer_and_scheduler(trainer, output_dir)
            return
        shards.save_shard(
            Path(output_dir),
            trainer.args.process_index,
            trainer.model_wrapped,
            trainer.optimizer,
            trainer.lr_scheduler,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        trainer: Any = self
        if not trainer.is_fsdp_enabled:
            Trainer._load_from_checkpoint(trainer, resume_from_checkpoint, model)
        elif model is not None:  # called once before the model is in shards and once after
            shards.load_parameters(Path(resume_from_checkpoint), trainer.args.process_index, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        trainer: Any = self
        if not trainer.is_fsdp_enabled or checkpoint is None:
            Trainer._load_optimizer_and_scheduler(trainer, checkpoint)
            return
        rank = trainer.args.process_index
        shards.load_optimizer(Path(checkpoint), rank, trainer.optimizer, trainer.lr_scheduler)

    def save_state_now(self) -> None:
        """Write a whole checkpoint of the last finished step."""
        trainer: Any = self
        target = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
        if not (target / COMPLETE).exists():
            Trainer._save_checkpoint(trainer, trainer.model, None)
            mark_whole(trainer.watch.session.crew, target)


def normalized_weights(rows: list[Row]) -> torch.Tensor:
    """Return the rows' weights scaled to a mean of one (rows)."""
    weights = torch.tensor([row.weight for row in rows], dtype=torch.float32)
    return weights / weights.mean()
