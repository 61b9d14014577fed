"""A tiny real model (random weights, SmolLM2's tokenizer cut to size is not needed) and small snapshots."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.recipe.recipe import resolve
from align.run_directory import RunDirectory, RunSpec
from common.net import free_port
from tests.support.words import WORDS, sentence

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(out: Path, layers: int = 2, **changes: Any) -> Path:
    """Write a Llama of a few thousand parameters with a word-level tokenizer to `out`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {
        w: i for i, w in enumerate([*special, "<unk>", "\n", "user", "assistant", "system", *WORDS])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    backend.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    settings = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 2,
        "initializer_range": 0.2,
    }
    LlamaForCausalLM(LlamaConfig(**(settings | changes))).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with 2 layers of width 64 and random weights."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def pairs(n: int, seed: int = 0, weight: float = 1.0) -> list[dict[str, Any]]:
    """Pairs whose chosen answer is the shorter one."""
    rng = random.Random(seed)
    return [
        {
            "pair_id": f"pair-{seed}-{i}",
            "prompt": [{"role": "user", "content": sentence(rng, rng.randint(2, 8))}],
            "chosen": sentence(rng, rng.randint(2, 5)),
            "rejected": sentence(rng, rng.randint(6, 12)),
            "weight": weight,
        }
        for i in range(n)
    ]


def demonstrations(n: int, seed: int = 0) -> list[dict[str, Any]]:
    return [
        {"demo_id": p["pair_id"], "prompt": p["prompt"], "completion": p["chosen"], "weight": 1.0}
        for p in pairs(n, seed)
    ]


def likes(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Short answers liked, long ones not, in turn."""
    return [
        {
            "demo_id": p["pair_id"],
            "prompt": p["prompt"],
            "completion": p["rejected"] if i % 2 else p["chosen"],
            "label": i % 2 == 0,
            "weight": 1.0,
        }
        for i, p in enumerate(pairs(n, seed))
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a snapshot file as the store does."""
    names = list(rows[0]) if rows else ["pair_id", "prompt", "chosen", "rejected", "weight"]
    types = {"prompt": pa.list_(MESSAGE), "weight": pa.float64(), "label": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


@pytest.fixture
def make_run(tmp_path: Path, tiny: Path) -> Callable[..., RunDirectory]:
    """Make a run directory: `make_run("dpo", params={...}, train=rows, heldout=rows, model=tiny,
    name="run")`."""

    def make(
        method: str = "dpo",
        params: dict[str, Any] | None = None,
        train: list[dict[str, Any]] | None = None,
        heldout: list[dict[str, Any]] | None = None,
        qlora: bool = False,
        model: Path = tiny,
        name: str = "run",
        **spec: Any,
    ) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        run.path.mkdir()
        default = {"sft": demonstrations, "kto": likes}.get(method, pairs)
        write_rows(run.train, default(12) if train is None else train)
        write_rows(run.heldout, default(6, seed=1) if heldout is None else heldout)
        own = {"max_length": 64, "r": 4, "learning_rate": 1e-2, "gradient_accumulation_steps": 2}
        recipe = resolve(method, qlora, {**own, **(params or {})})
        run.write(
            RunSpec(method=method, base_model=str(model), recipe=recipe.to_dict(), snapshot="s-test", **spec)
        )
        return run

    return make


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "align.worker",
        "align.training.pipeline",
        "bitsandbytes",
        "transformers.models.llama.modeling_llama",
        "torch.distributed.fsdp",
    ]
)


def _log_to(path: str) -> None:
    with open(Path(path) / "worker.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _worker(path: str, forked_group: bool) -> None:
    _log_to(path)
    from align import worker
    from align.training.distributed import launcher

    if forked_group:
        launcher.subprocess.Popen = ForkedWorker  # type: ignore[misc,assignment]
    sys.exit(worker.main([path]))


class ForkedWorker:
    """What the launcher needs of a `Popen` of `python -m align.worker`, forked with the imports done."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        assert command[1:3] == ["-m", "align.worker"]
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _run_and_exit(command[3:], env)

    def poll(self) -> int | None:
        return self._reap(os.WNOHANG)

    def wait(self) -> int | None:
        return self._reap(0)

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run_and_exit(arguments: list[str], env: Mapping[str, str]) -> NoReturn:
    """Run the worker in this fork, with the environment of a process of its own."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(env)
        from align import worker

        status = worker.main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _member(path: str, environment: dict[str, str], destroy_fails: bool) -> None:
    _log_to(path)
    if destroy_fails:
        import torch.distributed as dist

        def destroy_process_group() -> None:
            raise RuntimeError("the others are gone")

        dist.destroy_process_group = destroy_process_group
    _run_and_exit([path], os.environ | environment)


def start_group(run: RunDirectory, size: int, destroy_fails: bool = False) -> list[Any]:
    """Start the workers of a run as torch's launcher does, but forked with the imports done; output in worker.log."""
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    group = [
        FORKS.Process(target=_member, args=(str(run.path), shared | rank, destroy_fails)) for rank in ranks
    ]
    for process in group:
        process.start()
    return group


def start_worker(run: RunDirectory, forked_group: bool = False) -> Any:
    """Start the worker in a process of its own, its output in worker.log.

    It is forked from a process that has done the imports, which take longer than all the rest. With `forked_group` so
    are the processes that it launches.
    """
    process = FORKS.Process(target=_worker, args=(str(run.path), forked_group))
    process.start()
    return process


def in_process(run: RunDirectory) -> int:
    """Run the worker in this process, which saves the imports; signals are not heard."""
    from align import worker

    return worker.main([str(run.path)])


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def wait_for(run: RunDirectory, worker: Any, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until a row of the progress meets `condition`."""
    seen = 0
    while worker.is_alive():
        for row in run.progress(seen):
            seen = row["line"]
            if condition(row):
                return
        time.sleep(0.02)
    raise AssertionError((run.path / "worker.log").read_text())


def seconds_to_stop(run: RunDirectory, asked: float) -> float:
    """Seconds from `asked` (since 1970) until the checkpoint was whole; the interpreter's own end is not counted."""
    return float(next(row["time"] for row in run.progress() if row.get("phase") == "stopped")) - asked


def losses(run: RunDirectory) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in run.progress() if row["kind"] == "step"}


def weights(run: RunDirectory) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.adapter / "adapter_model.safetensors")
