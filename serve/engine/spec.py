"""What an engine is to be, and the command line and environment that make vLLM that.

Knows vLLM's flags and nothing of running processes.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from common.gpu_cards import has_cuda
from serve.engine.cards.cuda_environment import cuda_environment, graph_arguments, search_path
from serve.engine.cards.gpu_memory import parse_memory
from serve.engine.lora_targets import linear_modules
from serve.engine.output_parsers import merge_arguments, parser_arguments

Rank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]  # what vLLM's --max-lora-rank accepts
RANKS: tuple[Rank, ...] = get_args(Rank)
OURS = (
    "model", "served-model-name", "host", "port", "enable-lora", "max-loras", "max-cpu-loras",
    "max-lora-rank", "api-key", "lora-modules", "uds",
)  # fmt: skip
SLEEP_ROUTES = "serve.vllm_plugin.sleep_routes.SleepRoutes"
CACHE = "cache/engines"
"""Directory in the data directory for what engines on a card compile; it may be deleted while none runs."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One vLLM server: a replica of the base model `base`.

    `model` is the local directory or hub id that it serves. With `url` the engine is external: it runs
    elsewhere with the same adapter directory and `api_key`, and is neither started nor stopped here.
    `max_loras` adapters fit in one batch and `max_cpu_loras` in memory; `max_lora_rank` is one of `RANKS`.
    `args` are further vLLM arguments by their name without the dashes (True for a switch). `device` auto
    takes CUDA where there is a card. `kv_cache_memory_bytes` (CPU; a vLLM size such as 512M) bounds the
    cache. On a card `gpu_memory` is what the engine takes of it, a share or a size such as 12GB; None sizes it by
    the model, with a cache of `kv_cache_tokens`, and `can_sleep` has vLLM hold its memory so that it can
    be given up for a while. `nice` is the niceness of its processes; None chooses by the device.
    Times are in seconds: an engine must serve within `start_timeout_s`; it is probed every `probe_interval_s`, and
    restarted when a probe waits while no sign of life comes for `probe_timeout_s`, or no step is finished for
    `busy_timeout_s` though it computes; running requests get `drain_s` to finish when it is stopped. Raises ValueError
    naming the field.
    """

    name: str
    base: str
    model: str
    url: str | None = None
    api_key: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    max_loras: int = 4
    max_cpu_loras: int = 16
    max_lora_rank: Rank = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    kv_cache_memory_bytes: str = "512M"
    gpu_memory: float | str | None = None
    kv_cache_tokens: int = 131072
    can_sleep: bool = False
    threads: int | None = None
    start_timeout_s: float = 900.0
    probe_interval_s: float = 10.0
    probe_timeout_s: float = 60.0
    busy_timeout_s: float = 900.0
    nice: int | None = None
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if self.max_lora_rank not in RANKS:
            raise ValueError(f"max_lora_rank is {self.max_lora_rank}; accepted: {', '.join(map(str, RANKS))}")
        if self.max_loras < 1:
            raise ValueError(f"max_loras is {self.max_loras}; accepted: 1 or more")
        if self.max_cpu_loras < self.max_loras:
            raise ValueError(
                f"max_cpu_loras is {self.max_cpu_loras}; accepted: max_loras ({self.max_loras}) or more"
            )
        if self.gpu_memory is not None:
            try:
                parse_memory(self.gpu_memory)
            except ValueError as error:
                raise ValueError(f"gpu_memory is {error}") from error
        if self.kv_cache_tokens < 1:
            raise ValueError(f"kv_cache_tokens is {self.kv_cache_tokens}; accepted: 1 or more")
        for key in self.args:
            if key.lstrip("-").replace("_", "-") in OURS:
                raise ValueError(f"args.{key} is set by the platform itself; remove it")

    @property
    def model_dir(self) -> Path | None:
        """The model's local directory, None for a hub id."""
        path = Path(self.model)
        return path if path.is_dir() else None

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the processor."""
        return self.device == "cpu" or (self.device == "auto" and not has_cuda())


def plain_arguments(spec: EngineSpec) -> dict[str, Any]:
    """Return the settings' arguments by the names that vLLM's help has, without dashes before them."""
    return {key.lstrip("-").replace("_", "-"): value for key, value in spec.args.items()}


def command(spec: EngineSpec, port: int) -> list[str]:
    """Return the command line that serves `spec` on loopback at `port`."""
    defaults: dict[str, Any] = {"generation-config": "vllm", "disable-uvicorn-access-log": True}
    defaults |= parser_arguments(spec.model_dir)
    given = plain_arguments(spec)
    if spec.on_cpu:
        defaults |= {"dtype": "float32", "kv-cache-memory-bytes": spec.kv_cache_memory_bytes}
    else:
        defaults |= graph_arguments(given)
        if spec.can_sleep:
            defaults |= {"enable-sleep-mode": True, "middleware": SLEEP_ROUTES}
    if spec.model_dir is not None and (modules := linear_modules(spec.model_dir)):
        defaults["lora-target-modules"] = modules
    fixed: dict[str, Any] = {
        "model": spec.model,
        "served-model-name": spec.base,
        "host": "127.0.0.1",
        "port": port,
        "enable-lora": True,
        "max-loras": spec.max_loras,
        "max-cpu-loras": spec.max_cpu_loras,
        "max-lora-rank": spec.max_lora_rank,
        "shutdown-timeout": max(1, int(spec.drain_s)),
    }
    argv = [sys.executable, "-m", "serve.engine.vllm_main"]
    for key, value in merge_arguments(defaults | fixed, given).items():
        argv += _flag(key, value)
    return argv


def _flag(key: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{key}"]
    if value is False:
        return [f"--no-{key}"]
    if isinstance(value, list | tuple):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, Mapping):
        return [f"--{key}", json.dumps(value)]
    return [f"--{key}", str(value)]


def environment(spec: EngineSpec, api_key: str, adapters_dir: Path, scratch: Path) -> dict[str, str]:
    """Return the environment of the engine process; `spec.env` has the last word.

    Sockets and other temporary files go to `scratch`, since vLLM leaves them where they are when it is killed; what a
    start on a card compiles goes to `cache/engines` in the data directory, for the next start. The key travels here
    and not on the command line, which every user of the machine can read.
    """
    env = dict(os.environ)
    env |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_API_KEY": api_key,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "TRIMTAB_ADAPTERS_DIR": str(adapters_dir),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TMPDIR": str(scratch),
        "PATH": search_path(env.get("PATH")),
    }
    if spec.model_dir is not None:
        env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if spec.on_cpu:
        cores = len(os.sched_getaffinity(0))
        # vLLM's own choice leaves one core free, which halves a two-core machine, and binds every engine of
        # the machine to the same cores.
        env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        env["OMP_NUM_THREADS"] = str(spec.threads or (cores if cores <= 2 else cores - 1))
        # Threads that spin while they wait stall each other whenever a training run shares the cores.
        env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if library := tcmalloc():
            env["LD_PRELOAD"] = " ".join(filter(None, [library, env.get("LD_PRELOAD", "")]))
    else:
        env |= cuda_environment(env, adapters_dir.absolute().parent / CACHE)
    return env | dict(spec.env)


def tcmalloc() -> str | None:
    """Return the path of tcmalloc where it is installed: fresh memory costs far fewer page faults with it."""
    found = sorted(glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4") + glob.glob("/usr/lib*/libtcmalloc.so.4"))
    return found[0] if found else None
