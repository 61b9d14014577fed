"""Take an adapter of zeros through what publishing does, at an engine's start, so that no stream waits for it later.

On a card, kernels are compiled when they are first needed, while all streams stand still: those of LoRA for a second with
the first adapter, those of sampling for three. Triton compiles variants by a batch's size (one; a multiple of 16; others)
and by how many tokens a step computes, so both are varied. A fault here costs the time that it would have saved, so it is
logged and the engine serves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from common.architecture import in_tower
from serve.adapters.base_modules import read_base_modules
from serve.adapters.files import CONFIG, WEIGHTS
from serve.engine.engine import Engine
from serve.engine.lora_targets import linear_modules
from serve.errors import EngineFailed, ServeError

log = logging.getLogger(__name__)
NAME = "trimtab-warm-up"
"""Differs from every published adapter's name, so that it is never routed to or resolved."""
RANK = 4
WINDOW = 384
"""What a window of the probe holds on a card."""
LENGTHS = (5, 16, 100, WINDOW)
"""Tokens of prompts."""
BATCHES = (1, 3, 16, 32)
"""Requests at once."""
SAMPLING: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.7},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 20},
)
TOKENS = 65, 90
"""Some tokens that every vocabulary has, from the first to before the second; prompts begin with different ones."""


async def warm_adapters(engine: Engine) -> bool:
    """Load an adapter of zeros, generate and score with it beside the base, and unload it; returns whether that was done.

    Only on a card, for an engine that was started here and whose model's weights can be read.
    """
    model_dir = engine.spec.model_dir
    if engine.spec.on_cpu or engine.spec.url is not None or model_dir is None:
        return False
    with tempfile.TemporaryDirectory(prefix="trimtab-warm-up-") as scratch:
        folder = Path(scratch) / NAME
        try:
            if not await asyncio.to_thread(write_zero_adapter, folder, model_dir):
                return False
            await _use(engine, folder)
        except (ServeError, OSError, ValueError) as error:
            log.warning("engine %s: no adapter was tried at its start: %s", engine.spec.name, error)
            return False
    return True


async def _use(engine: Engine, folder: Path) -> None:
    await engine.load_adapter(NAME, folder)
    try:
        for wave in waves(engine.spec.base):
            await asyncio.gather(*(_request(engine, body) for body in wave))
    finally:
        await engine.unload_adapter(NAME)


async def _request(engine: Engine, body: dict[str, Any]) -> None:
    """Send one request; one that the engine refuses, as a prompt that is too long for its context, is left out."""
    try:
        await engine.request("POST", "/v1/completions", body, timeout=None)
    except EngineFailed as error:
        if error.status != 400:
            raise


def waves(base: str) -> Iterator[list[dict[str, Any]]]:
    """Give what is requested at once, wave by wave: what publishing asks of an adapter, then chats of every kind."""
    window = [TOKENS[0]] * WINDOW
    for model in (NAME, base):
        first = {"model": model, "temperature": 0, "max_tokens": 1}
        yield [{**first, "prompt": "Hello", "logprobs": 1}]
        yield [{**first, "prompt": window, "prompt_logprobs": 0}]
    for size in BATCHES:
        yield [_chat(base, SAMPLING[0], size + number) for number in range(size)]
        for kinds in (*((kind,) for kind in SAMPLING), SAMPLING):
            yield [
                _chat((NAME, base)[number % 2], kinds[number % len(kinds)], size + number)
                for number in range(size)
            ]


def _chat(model: str, sampling: dict[str, Any], number: int) -> dict[str, Any]:
    low, high = TOKENS
    prompt = [low + number % (high - low)] * LENGTHS[number % len(LENGTHS)]
    return {"model": model, "prompt": prompt, "max_tokens": 4, "ignore_eos": True, **sampling}


def write_zero_adapter(folder: Path, model_dir: Path) -> bool:
    """Write a PEFT adapter of zeros for the layers that the engine adapts; False where their shapes can't be read.

    Blocking. Raises `OSError`.
    """
    base, names = read_base_modules(model_dir), linear_modules(model_dir)
    if base is None or names is None:
        return False
    tensors: dict[str, Any] = {}
    for module, shape in base.inside.items():
        if shape is not None and module.rsplit(".", 1)[-1] in names and not in_tower(module):
            out_size, in_size = shape
            tensors[f"base_model.model.{module}.lora_A.weight"] = np.zeros((RANK, in_size), np.float16)
            tensors[f"base_model.model.{module}.lora_B.weight"] = np.zeros((out_size, RANK), np.float16)
    if not tensors:
        return False
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK}
    folder.mkdir()
    config_text = json.dumps({**config, "lora_dropout": 0.0, "bias": "none", "target_modules": names})
    (folder / CONFIG).write_text(config_text, encoding="utf-8")
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    return True
