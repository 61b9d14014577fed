"""A release written as a PEFT folder, as merged weights or as GGUF, and checked through what was written.

Run as `python -m align.export JOB.json` (fields: `align.training.exports.job.ExportJob`). Prints JSON lines: how far it
is (`{"done", "total", "doing"}`), and last the result (`dtype` and the fields of
`align.training.exports.job.Distance`). Writes `out` alone and leaves it to the caller to rename or delete.

The check loads what was written anew: log-probabilities of the probe text (`align.training.probe`), against those of base
and adapter apart. An adapter must make no difference; merged weights are checked in float32, before they are rounded, and
again value by value as they were read back (`align.training.exports.merged_weights`). GGUF: `align.training.exports.gguf`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig
from transformers.utils import logging

from align.errors import AlignError
from align.training.exports.card import write_card
from align.training.exports.gguf import export_gguf
from align.training.exports.job import Distance, ExportError, ExportJob, compare
from align.training.exports.merged_weights import (
    digests,
    load_model,
    merge_adapter,
    require_same_values,
)
from align.training.exports.modelfile import write_modelfile
from align.training.merge import allow_as_usual
from align.training.model import load_tokenizer
from align.training.model_card import base_licence
from align.training.probe import load_adapter, logprobs, probe_tokens

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
TEMPLATE, PROMPT, MODELFILE = "chat_template.jinja", "system_prompt.txt", "Modelfile"
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
STEPS = 5
SAME = 1e-4
"""Nats per token that an adapter may differ by from its copy."""
# the names of sampling defaults in a generation configuration, where they differ
NAMES = {"max_tokens": "max_new_tokens"}
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")

Say = Callable[[int, str], None]


def export(job: ExportJob, say: Say) -> dict[str, Any]:
    """Write a release into `job.out`; return what `main` prints last. Raises `AlignError`."""
    say(0, "reading the base model")
    tokenizer = load_tokenizer(job.model)
    tokens = probe_tokens(tokenizer, [], 0)
    if job.form == "gguf":
        found, dtype = export_gguf(job, tokens, tokenizer, say)
        text = write_modelfile(job.name, job.weights_file, tokenizer, job.system_prompt, job.sampling)
        (job.directory / MODELFILE).write_text(text)
    else:
        found, dtype = (_export_adapter if job.form == "peft" else _export_merged)(job, tokens, say)
    (job.directory / TEMPLATE).write_text(_template(tokenizer))
    return _finish(job, dtype, found)


def _export_adapter(job: ExportJob, tokens: list[int], say: Say) -> tuple[Distance, str]:
    """Copy the adapter, under the name that others have for its base, and load the copy."""
    if job.adapter is None:
        raise ExportError(f"{job.name} has no adapter", "export it as hf")
    model = load_model(job.model)
    say(1, "computing what the release answers")
    base = logprobs(model, tokens)
    model = load_adapter(model, Path(job.adapter))
    release = logprobs(model, tokens)
    say(2, "writing")
    job.directory.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(Path(job.adapter) / name, job.directory / name)
    file = job.directory / ADAPTER_FILES[0]
    config = json.loads(file.read_text()) | {"base_model_name_or_path": job.base}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    say(3, "reading what was written")
    written = load_adapter(model.unload(), job.directory)
    say(4, "comparing with the release")
    found = compare(base, release, logprobs(written, tokens))
    _require(found.mean_abs, SAME)
    return found, _name(written)


def _export_merged(job: ExportJob, tokens: list[int], say: Say) -> tuple[Distance, str]:
    """Write base and adapter as one, with the release's sampling as generation defaults, and load what was written."""
    say(1, "merging")
    merged = merge_adapter(job.model, Path(job.adapter) if job.adapter else None, job.dtype, tokens)
    say(2, "writing")
    job.directory.mkdir(parents=True)
    _set_sampling(merged.model.generation_config, job.sampling)
    merged.model.save_pretrained(job.directory)
    AutoTokenizer.from_pretrained(job.model).save_pretrained(
        job.directory
    )  # a padding token is its own affair
    meant = digests(merged.model)
    merged = replace(merged, model=None)  # there may not be room for both
    say(3, "reading what was written")
    written = load_model(job.out)
    require_same_values(meant, written)
    say(4, "comparing with the release")
    found = compare(merged.base, merged.release, logprobs(written, tokens))
    _require(found.mean_abs, merged.accepted(written.dtype))
    return replace(found, base_mean_abs=merged.noise), _name(written)


def _require(distance: float, accepted: float) -> None:
    if not distance <= accepted:
        raise ExportError(
            f"what was written differs from the release by {distance:.4g} nats per token; accepted: {accepted:g}"
        )


def _name(model: Any) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _template(tokenizer: Any) -> str:
    """Return the chat template; of several the one without tools or documents."""
    template = tokenizer.chat_template
    return str(template if isinstance(template, str) else template["default"])


def _set_sampling(config: GenerationConfig, sampling: dict[str, Any]) -> None:
    """Set what a generation configuration has a name for; a temperature of 0 is greedy there."""
    given = {name: sampling[name] for name in SAMPLING if sampling.get(name) is not None}
    greedy = given.get("temperature") == 0
    if greedy:
        given = {name: value for name, value in given.items() if name in ("max_tokens", "repetition_penalty")}
        config.update(temperature=1.0, top_p=1.0, top_k=50, min_p=None)
    if given.get("top_k") == -1:
        given["top_k"] = 0  # an engine's word for all tokens
    if greedy or {"temperature", "top_p", "top_k", "min_p"} & given.keys():
        config.do_sample = not greedy
    config.update(**{NAMES.get(name, name): value for name, value in given.items()})


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
