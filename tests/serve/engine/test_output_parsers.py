"""Which parsers an engine starts with: by the base's family and template, known to the installed vLLM, overridable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from serve.engine.output_parsers import (
    FALLBACK_TOOL_PARSER,
    REASONING_PARSERS,
    TOOL_PARSERS,
    parser_arguments,
)
from serve.engine.spec import EngineSpec, command
from serve.gateway.upstream import refusal
from serve.router import Target


def model(directory: Path, family: str, template: str, file: str = "chat_template.jinja") -> Path:
    (directory / "config.json").write_text(json.dumps({"model_type": family}))
    text = template if file.endswith(".jinja") else json.dumps({"chat_template": template})
    (directory / file).write_text(text)
    return directory


def parsers(directory: Path) -> tuple[str, str | None]:
    arguments = parser_arguments(directory)
    assert arguments["enable-auto-tool-choice"] is True
    return arguments["tool-call-parser"], arguments.get("reasoning-parser")


def flags(**args: Any) -> str:
    return " ".join(command(EngineSpec("e", "b", "hub/id", device="cpu", args=args), 80))


def test_every_parser_of_the_tables_is_registered_in_the_installed_vllm() -> None:
    tools = {FALLBACK_TOOL_PARSER, *(one.parser for formats in TOOL_PARSERS.values() for one in formats)}
    reasoning = {one.parser for formats in REASONING_PARSERS.values() for one in formats}
    assert tools <= set(ToolParserManager.list_registered())
    assert reasoning <= set(ReasoningParserManager.list_registered())


def test_every_family_of_the_tables_is_a_model_type() -> None:
    from transformers import CONFIG_MAPPING

    served_by_vllm_alone = {"kimi_k2"}
    assert {*TOOL_PARSERS, *REASONING_PARSERS} - served_by_vllm_alone <= set(CONFIG_MAPPING)


@pytest.mark.parametrize(
    ("family", "template", "expected"),
    [
        ("qwen3", "{% if enable_thinking %}<think>{% endif %}<tool_call>", ("hermes", "qwen3")),
        ("qwen3_moe", "<tool_call><function=name>", ("qwen3_coder", None)),
        ("qwen2", "<tool_call>", ("hermes", None)),
        ("qwen2", "{{ '<|im_start|>assistant\\n<think>\\n' }}", ("hermes", "deepseek_r1")),
        ("llama", "<|im_start|>{{ message }}", ("hermes", None)),
        ("llama", "{{ '<|python_tag|>' }}", ("llama3_json", None)),
        ("mistral", "[TOOL_CALLS]", ("mistral", None)),
        ("deepseek_v3", "<｜tool▁calls▁begin｜>```json", ("deepseek_v3", None)),
        ("deepseek_v3", "<｜tool▁calls▁begin｜>", ("deepseek_v31", None)),
        ("gpt_oss", "<|channel|>", ("openai", "openai_gptoss")),
        ("of_nobody", "[TOOL_CALLS] enable_thinking", ("hermes", None)),
    ],
)
@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_parsers_follow_the_family_and_the_template(
    tmp_path: Path, family: str, template: str, expected: tuple[str, str | None], file: str
) -> None:
    assert parsers(model(tmp_path, family, template, file)) == expected


def test_a_model_without_files_gets_the_parser_that_needs_none(tmp_path: Path) -> None:
    assert parsers(tmp_path) == ("hermes", None)
    assert parser_arguments(None) == {"enable-auto-tool-choice": True, "tool-call-parser": "hermes"}


def test_the_built_in_base_takes_tools(smollm2: Path) -> None:
    assert parsers(smollm2) == ("hermes", None)


def test_arguments_override_the_parsers() -> None:
    assert "--enable-auto-tool-choice --tool-call-parser hermes" in flags()
    assert "--tool-call-parser pythonic" in flags(tool_call_parser="pythonic")
    assert "--reasoning-parser qwen3" in flags(**{"reasoning-parser": "qwen3"})
    off = flags(**{"tool-call-parser": False, "reasoning-parser": False})
    assert "tool" not in off
    assert "reasoning" not in off
    assert "--no-enable-auto-tool-choice" in flags(enable_auto_tool_choice=False)


@pytest.mark.parametrize(
    "message",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        'tool_choice="required" requires --tool-call-parser to be set',
    ],
)
def test_a_refusal_names_the_setting(message: str) -> None:
    target = Target("assistant", "assistant", "assistant@1", None, "b")
    error = refusal(json.dumps({"error": {"message": message, "param": None}}).encode(), 400, target)
    assert "`tool-call-parser`" in error.message
    assert "[engines.NAME.args]" in error.message
    assert "--" not in error.message
    assert error.param == "tool_choice"
