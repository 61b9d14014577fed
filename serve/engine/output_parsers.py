"""Which of vLLM's parsers read tool calls and reasoning out of a base model's answers.

A family (`model_type` of config.json) has one format or several; the chat template says which one a model was trained on.
A parser is chosen only where its marker stands in the template: vLLM does not start with a parser whose special tokens
the tokenizer lacks, and a reasoning parser takes the whole answer of a model that does not reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FALLBACK_TOOL_PARSER = "hermes"
"""Tool calls as JSON between <tool_call> tags; needs no special token, so it starts with every tokenizer."""


class Format(NamedTuple):
    """A parser, and the text in the chat template that shows the model's use of what it reads."""

    parser: str
    marker: str


_DEEPSEEK = (
    Format("deepseek_v3", "```json"),
    Format("deepseek_v31", "<｜tool▁calls▁begin｜>"),
)
_QWEN = (Format("qwen3_coder", "<function="), Format("hermes", "<tool_call>"))
_LLAMA = (Format("llama3_json", "<|python_tag|>"),)
_MISTRAL = (Format("mistral", "[TOOL_CALLS]"),)
_GLM = (Format("glm45", "<arg_key>"),)

TOOL_PARSERS: dict[str, tuple[Format, ...]] = {
    "apertus": (Format("apertus", "<|tools_prefix|>"),),
    "deepseek_v3": _DEEPSEEK,
    "ernie4_5_moe": (Format("ernie45", "<tool_call>"),),
    "gemma3_text": (Format("functiongemma", "<start_function_call>"),),
    "gemma4": (Format("gemma4", "<|tool_call>"),),
    "glm4_moe": _GLM,
    "gpt_oss": (Format("openai", "<|channel|>"),),
    "granite": (Format("granite", "<|tool_call|>"),),
    "granitemoehybrid": (Format("granite4", "<tool_call>"),),
    "jamba": (Format("jamba", "<tool_calls>"),),
    "kimi_k2": (Format("kimi_k2", "<|tool_calls_section_begin|>"),),
    "lfm2": (Format("lfm2", "<|tool_call_start|>"),),
    "llama": _LLAMA,
    "ministral3": _MISTRAL,
    "mistral": _MISTRAL,
    "mistral3": _MISTRAL,
    "mixtral": _MISTRAL,
    "mllama": _LLAMA,
    "olmo3": (Format("olmo3", "<function_calls>"),),
    "phi3": (Format("phi4_mini_json", "<|tool|>"),),
    "qwen2": _QWEN,
    "qwen2_moe": _QWEN,
    "qwen3": _QWEN,
    "qwen3_5": _QWEN,
    "qwen3_5_moe": _QWEN,
    "qwen3_moe": _QWEN,
    "qwen3_next": _QWEN,
    "seed_oss": (Format("seed_oss", "<seed:tool_call>"),),
}
"""By `model_type`; the first format whose marker is in the template counts."""

_R1 = (
    Format("deepseek_r1", "<｜Assistant｜><think>"),
    Format("deepseek_r1", "<|im_start|>assistant\\n<think>"),
)
_QWEN3 = (Format("qwen3", "enable_thinking"), *_R1)

REASONING_PARSERS: dict[str, tuple[Format, ...]] = {
    "deepseek_v3": _R1,
    "gemma4": (Format("gemma4", "enable_thinking"),),
    "glm4_moe": (Format("glm45", "enable_thinking"),),
    "gpt_oss": (Format("openai_gptoss", "<|channel|>"),),
    "llama": _R1,
    "olmo3": (Format("olmo3", "<|im_start|>assistant\\n<think>"),),
    "qwen2": _R1,
    "qwen3": _QWEN3,
    "qwen3_5": _QWEN3,
    "qwen3_5_moe": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_next": _QWEN3,
    "seed_oss": (Format("seed_oss", "<seed:think>"),),
}
"""By `model_type`; a model whose template shows no reasoning gets no reasoning parser."""


def parser_arguments(model: Path | None) -> dict[str, Any]:
    """Return vLLM's arguments for the parsers of the model in a directory; None stands for a model not on this disk."""
    arguments: dict[str, Any] = {
        "enable-auto-tool-choice": True,
        "tool-call-parser": FALLBACK_TOOL_PARSER,
    }
    if model is None:
        return arguments
    family = str(_read_json(model / "config.json").get("model_type", ""))
    template = chat_template(model)
    if tools := _choose(TOOL_PARSERS.get(family, ()), template):
        arguments["tool-call-parser"] = tools
    if reasoning := _choose(REASONING_PARSERS.get(family, ()), template):
        arguments["reasoning-parser"] = reasoning
    return arguments


def merge_arguments(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `defaults` with the settings' arguments over them; False for a parser leaves it out.

    vLLM has no flag that takes a parser back, and refuses automatic tool choice without a tool parser.
    """
    merged = {**defaults, **given}
    for parser in ("tool-call-parser", "reasoning-parser"):
        if merged.get(parser) is False:
            del merged[parser]
    if "tool-call-parser" not in merged:
        merged.pop("enable-auto-tool-choice", None)
    return merged


def chat_template(model: Path) -> str:
    """Return the texts of all chat templates of a model directory, empty where there is none."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(model.glob("*.jinja"))]
    value = _read_json(model / "tokenizer_config.json").get("chat_template") or ""
    named = value if isinstance(value, list) else [{"template": value}]
    texts += [str(one.get("template", "")) for one in named if isinstance(one, dict)]
    return "\n".join(texts)


def _choose(formats: tuple[Format, ...], template: str) -> str | None:
    return next((one.parser for one in formats if one.marker in template), None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
