"""A release written as a PEFT folder or as merged weights, and checked through what was written.

Run as `python -m align.export JOB.json` (fields: `align.training.exports.job.ExportJob`). Prints JSON lines: how far it
is (`{"done", "total", "doing"}`), and last the result (`{"dtype", "mean_abs", "max_abs", "tokens", "effect",
"effect_share"}`). Writes `out` alone and leaves it to the caller to rename or delete.

The check loads what was written anew: log-probabilities of the probe text (`align.training.probe`), against those of base
and adapter apart. More than `merge.TOLERANCE`, or twice what the base alone differs by in another type, is refused.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging

from align.errors import AlignError
from align.training.attention import attention_arguments
from align.training.exports.card import write_card
from align.training.exports.job import Distance, ExportError, ExportJob, compare
from align.training.merge import TOLERANCE, allow_as_usual
from align.training.model import load_tokenizer
from align.training.model_card import base_licence
from align.training.probe import load_adapter, logprobs, probe_tokens

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
TEMPLATE, PROMPT = "chat_template.jinja", "system_prompt.txt"
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
STEPS = 5
# the names of sampling defaults in a generation configuration, where they differ
NAMES = {"max_tokens": "max_new_tokens"}
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")

Say = Callable[[int, str], None]


def export(job: ExportJob, say: Say) -> dict[str, Any]:
    """Write a release into `job.out`; return what `main` prints last. Raises `AlignError`."""
    say(0, "reading the base model")
    tokenizer = load_tokenizer(job.model)
    tokens = probe_tokens(tokenizer, [], 0)
    is_rounded = job.form == "hf" and job.dtype not in ("auto", "float32")
    rounded = logprobs(_load(job.model, job.dtype), tokens) if is_rounded else None
    model = _load(job.model, "float32" if job.dtype == "float32" else "auto")
    say(1, "computing what the release answers")
    base = release = logprobs(model, tokens)
    if job.adapter is not None:
        model = load_adapter(model, Path(job.adapter))
        release = logprobs(model, tokens)
    job.directory.mkdir(parents=True)
    say(2, "writing")
    if job.form == "peft":
        model = _write_adapter(job, model)
    else:
        _write_merged(job, model)
        tokenizer.save_pretrained(job.directory)
        model = None  # there may not be room for both
    (job.directory / TEMPLATE).write_text(tokenizer.chat_template)
    say(3, "reading what was written")
    written = _read(job, model)
    say(4, "comparing with the release")
    noise = compare(base, base, rounded).mean_abs if rounded else 0.0
    found = replace(compare(base, release, logprobs(written, tokens)), base_mean_abs=noise)
    dtype = next(written.parameters()).dtype
    accepted = max(TOLERANCE.get(dtype, 5e-2), 2 * noise)
    if not found.mean_abs <= accepted:
        raise ExportError(
            f"what was written differs from the release by {found.mean_abs:.4g} nats per token; accepted: {accepted:g}"
        )
    return _finish(job, str(dtype).removeprefix("torch."), found)


def _write_adapter(job: ExportJob, model: Any) -> Any:
    """Copy the adapter, under the name that others have for its base; return the base without an adapter."""
    if job.adapter is None:
        raise ExportError(f"{job.name} has no adapter", "export it as hf")
    for name in ADAPTER_FILES:
        shutil.copyfile(Path(job.adapter) / name, job.directory / name)
    file = job.directory / ADAPTER_FILES[0]
    config = json.loads(file.read_text()) | {"base_model_name_or_path": job.base}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return model.unload()


def _write_merged(job: ExportJob, model: Any) -> None:
    """Write base and adapter as one, with the release's sampling as generation defaults."""
    if job.adapter is not None:
        try:
            model = model.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise ExportError(f"the adapter cannot be merged: {error}") from error
    if job.dtype != "auto":
        model = model.to(getattr(torch, job.dtype))
    _set_sampling(model.generation_config, job.sampling)
    model.save_pretrained(job.directory)


def _set_sampling(config: GenerationConfig, sampling: dict[str, Any]) -> None:
    """Set what a generation configuration has a name for; a temperature of 0 is greedy there."""
    given = {name: sampling[name] for name in SAMPLING if sampling.get(name) is not None}
    greedy = given.get("temperature") == 0
    if greedy:
        given = {name: value for name, value in given.items() if name in ("max_tokens", "repetition_penalty")}
        config.update(temperature=1.0, top_p=1.0, top_k=50)
    if greedy or {"temperature", "top_p", "top_k", "min_p"} & given.keys():
        config.do_sample = not greedy
    config.update(**{NAMES.get(name, name): value for name, value in given.items()})


def _read(job: ExportJob, base: Any) -> Any:
    """Load what was written, an adapter over the base that is in memory."""
    if job.form == "peft":
        return load_adapter(base, job.directory)
    return _load(job.out, "auto")


def _load(directory: str, dtype: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, **attention_arguments(directory)
    ).eval()


def _finish(job: ExportJob, dtype: str, found: Distance) -> dict[str, Any]:
    """Add card, prompt and licence, and return the result."""
    if job.system_prompt:
        (job.directory / PROMPT).write_text(job.system_prompt)
    for pattern in LICENCES:
        for file in Path(job.model).glob(pattern):
            shutil.copyfile(file, job.directory / file.name)
    write_card(job, base_licence(job.model), dtype, found)
    allow_as_usual(job.directory)
    return {"dtype": dtype, **asdict(found)}


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 1 with one line of reason."""
    (path,) = sys.argv[1:] if argv is None else argv
    logging.disable_progress_bar()
    try:
        job = ExportJob(**json.loads(Path(path).read_text()))
        result = export(
            job,
            lambda done, doing: print(json.dumps({"done": done, "total": STEPS, "doing": doing}), flush=True),
        )
        print(json.dumps(result))
    except (AlignError, OSError, ValueError, RuntimeError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
