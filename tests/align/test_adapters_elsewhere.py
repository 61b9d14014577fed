"""The code blocks of docs/adapters.md run as they stand, with an adapter as Trimtab keeps it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import make_lora, make_tiny_base

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")
    adapter = make_lora(tmp_path_factory.mktemp("adapters") / "a-0123456789abcdef", base, rank=4)
    return {"BASE": str(base), "ADAPTER": str(adapter)}


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_each_python_block_runs(
    number: int,
    paths: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in paths.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[number], str(PAGE), "exec"), names)
    if "merged" in names:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        ids = torch.arange(20, 40)[None]
        written = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
        base = AutoModelForCausalLM.from_pretrained(paths["BASE"])
        assert torch.allclose(
            written, PeftModel.from_pretrained(base, paths["ADAPTER"])(ids).logits, atol=1e-3
        )
    else:
        assert capsys.readouterr().out.strip()


def test_vllm_accepts_every_flag_of_the_command() -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    (command,) = [block for block in blocks("bash") if block.startswith("vllm serve")]
    words = shlex.split(command.replace("$BASE", "/models/base").replace("$ADAPTER", "/adapters/one"))
    words += ["--lora-target-modules", "q_proj"]
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", words[2], *words[3:]])
    assert (args.enable_lora, args.max_lora_rank, args.served_model_name) == (True, 16, ["base"])
    assert [(module.name, module.path) for module in args.lora_modules] == [("assistant", "/adapters/one")]


def test_merged_files_have_the_permissions_of_new_files(paths: dict[str, str], tmp_path: Path) -> None:
    from align.training.merge import merge

    mask = os.umask(0o027)
    try:
        merge(paths["BASE"], Path(paths["ADAPTER"]), tmp_path / "merged")
    finally:
        os.umask(mask)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "merged").iterdir()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {"0o640"}, modes
