"""The model card (README.md) of an export: what it is, how to use it, how far it is from the release."""

from __future__ import annotations

import json
import re
from pathlib import Path

from align.training.exports.job import Distance, ExportJob

LIBRARIES = {"peft": "peft", "hf": "transformers", "gguf": "llama.cpp"}
KINDS = {
    "peft": "LoRA adapter (PEFT)",
    "hf": "merged model (transformers)",
    "gguf": "merged model (GGUF, for llama.cpp and Ollama)",
}
SECTIONS = "## Held-out measures"
USES = {
    "peft": """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, {here})
tokenizer = AutoTokenizer.from_pretrained({base})""",
    "hf": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({here}, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained({here})""",
    "gguf": """ollama create NAME -f Modelfile     # Ollama: with the system prompt and the sampling of the release
llama-server --jinja -m {file}       # llama.cpp: without them""",
}


def write_card(job: ExportJob, licence: str | None, dtype: str, found: Distance) -> None:
    """Write `README.md` into the directory of an export."""
    lines = [
        "---",
        f"base_model: {json.dumps(job.base)}",
        f"library_name: {LIBRARIES[job.form]}",
        *([f"license: {licence}"] if licence else []),
        "pipeline_tag: text-generation",
        f"tags: [trimtab{', lora' if job.adapter else ''}]",
        "---",
        "",
        f"# {job.name}: {KINDS[job.form]}",
        "",
        f"- base model: `{job.base}`, {job.origin or 'version unknown: it was served from a folder'}",
        f"- licence of the base: {licence or 'unknown; see the base model'}",
        f"- adapter: {f'`{Path(job.adapter).name}`' if job.adapter else 'none'}",
        f"- weights: {dtype}",
        f"- chat template: `chat_template.jinja`{', also in the weights file' if job.form == 'gguf' else ''}",
        *[f"- learned from: {count} {noun}" for noun, count in job.learned.items() if count],
        "",
        "## Use",
        "",
        "```sh" if job.form == "gguf" else "```python",
        USES[job.form].format(base=json.dumps(job.base), here=json.dumps("./"), file=job.weights_file),
        "```",
        "",
        *_as_served(job),
        "## Check of these files",
        "",
        "Log-probabilities of a probe text, computed from these files, against those of the release (nats per token).",
        "",
        "| measure | value |",
        "| --- | --- |",
        f"| mean distance | {found.mean_abs:.3g} |",
        f"| largest distance | {found.max_abs:.3g} |",
        *_of_type(job, found),
        f"| tokens | {found.tokens} |",
        f"| read by | {found.read_by} |",
    ]
    if found.effect is not None:
        share = (
            "not measured: the distance is larger"
            if found.effect_share is None
            else f"{found.effect_share:.4f}"
        )
        lines.append(f"| what the adapter adds in the release | {found.effect:.3g} |")
        lines.append(f"| share of it that these files do | {share} |")
    lines += ["", *_of_run(job)]
    (job.directory / "README.md").write_text("\n".join(lines))


def _of_type(job: ExportJob, found: Distance) -> list[str]:
    """Return what the type of the weights makes of the distance."""
    if job.form != "gguf":
        return [f"| mean distance of the base alone in this type | {found.base_mean_abs:.3g} |"]
    if found.rounding_mean_abs is None:
        return []
    return [
        f"| mean distance of the rounded weights alone, computed in float32 | {found.rounding_mean_abs:.3g} |"
    ]


def _as_served(job: ExportJob) -> list[str]:
    """Return how the release was served and evaluated, which the files alone do not do."""
    lines = []
    if job.system_prompt:
        quoted = f", with {job.examples} examples in it" if job.examples else ""
        alone = (
            "the Modelfile applies it" if job.form == "gguf" else "these files do not apply it by themselves"
        )
        why = f"The release was evaluated and served with it{quoted}; {alone}."
        lines += [
            "## System prompt",
            "",
            why,
            "The text is also in `system_prompt.txt`.",
            "",
            *_fenced(job.system_prompt),
            "",
        ]
    if job.sampling:
        text = json.dumps(job.sampling, indent=1, sort_keys=True)
        lines += ["## Sampling", "", *_fenced(text, "json"), ""]
    return lines


def _fenced(text: str, language: str = "text") -> list[str]:
    """Return a code block that ends where the text does, whatever backticks are in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    return [fence + language, text, fence]


def _of_run(job: ExportJob) -> list[str]:
    """Return the measures and the recipe from the card of the run that trained the adapter."""
    _, heading, rest = (job.run_card or "").partition(SECTIONS)
    return [heading + rest] if heading else []
