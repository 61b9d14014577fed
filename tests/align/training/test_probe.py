"""The probe of an adapter: what it holds in each type, and that PEFT passes over nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from align.errors import ModelError
from align.training import probe as module
from align.training.model import Hardware, load_tokenizer
from align.training.probe import (
    CUDA_WINDOWS,
    TOKENS,
    WINDOW,
    load_adapter,
    logprobs,
    main,
    probe_tokens,
    tokens_for,
)
from store.values import Probe
from tests.support.models import ALL_LINEAR, make_lora, make_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_lora(tmp_path_factory.mktemp("loras") / "one", base, rank=4, scale=0.3)


def probe(base: Path, adapter: Path, out: Path, dtype: str) -> dict[str, list[float]]:
    command = ["--model", str(base), "--adapter", str(adapter), "--out", str(out), "--dtype", dtype]
    assert main(command) == 0
    found = json.loads(out.read_text())
    table: dict[str, list[float]] = found["logprobs"]
    count = TOKENS if dtype == "float32" else WINDOW
    assert len(found["token_ids"]) == count
    assert {len(series) for series in table.values()} == {count - 1}
    if dtype == "float32":
        model = AutoModelForCausalLM.from_pretrained(base).eval()
        assert logprobs(model, found["token_ids"]) == pytest.approx(table["base"], abs=1e-5)
        tuned = load_adapter(model, adapter)
        assert logprobs(tuned, found["token_ids"]) == pytest.approx(table["adapter"], abs=1e-5)
    return table


def without_multiples(table: dict[str, list[float]]) -> set[str]:
    return {name for name in table if not name.startswith("adapter_x")}


def test_in_float32_the_probe_holds_base_and_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    table = probe(base, adapter, tmp_path / "probe.json", "float32")
    assert without_multiples(table) == {"base", "adapter"}


def test_in_bfloat16_it_holds_the_part_of_each_block_and_projection(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    table = probe(base, adapter, tmp_path / "probe.json", "bfloat16")
    modules = {name for name in table if name.startswith("module_")}
    assert modules == {f"module_{name}" for name in ALL_LINEAR}
    assert without_multiples(table) - modules == {"base", "adapter", "block_base", "block_0", "block_1"}
    for name in ("block_0", "block_1", *modules):
        assert table[name] != table["block_base"]
        assert table[name] != table["adapter"]


def test_an_adapter_of_one_projection_has_no_such_part(base: Path, tmp_path: Path) -> None:
    adapter = make_lora(tmp_path / "narrow", base, rank=4, target_modules=("o_proj",))
    table = probe(base, adapter, tmp_path / "probe.json", "bfloat16")
    assert without_multiples(table) == {"base", "adapter", "block_base", "block_0", "block_1"}


def test_a_blocks_part_is_computed_in_float32(base: Path, adapter: Path, tmp_path: Path) -> None:
    table = probe(base, adapter, tmp_path / "probe.json", "bfloat16")
    tokens = json.loads((tmp_path / "probe.json").read_text())["token_ids"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).float().eval()
    exact = logprobs(model, tokens)
    assert exact == pytest.approx(table["block_base"], abs=1e-4)
    assert max(abs(a - b) for a, b in zip(exact, table["base"], strict=True)) > 1e-3


def test_on_a_gpu_the_probe_is_read_in_windows(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "tokens_for", lambda hardware: 2 * WINDOW)
    command = ["--model", str(base), "--adapter", str(adapter), "--out", str(tmp_path / "probe.json")]
    assert main(command) == 0
    probe = Probe.from_json(json.loads((tmp_path / "probe.json").read_text()))
    assert (probe.window, len(probe.token_ids)) == (WINDOW, 2 * WINDOW)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    expected = [value for window in probe.windows for value in logprobs(model, window)]
    assert probe.logprobs["base"] == pytest.approx(expected, abs=1e-4)
    assert len(expected) == 2 * (WINDOW - 1)


def test_only_inexact_computing_takes_a_long_probe(base: Path) -> None:
    lengths = {
        (device, dtype): tokens_for(Hardware(device, dtype, "adamw_torch", False))
        for device in ("cpu", "cuda")
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert list(lengths.values()) == [TOKENS, WINDOW, TOKENS, WINDOW * CUDA_WINDOWS]
    tokens = probe_tokens(load_tokenizer(str(base)), [], 0, WINDOW * CUDA_WINDOWS)
    assert len(tokens) == WINDOW * CUDA_WINDOWS, "the fixed texts are enough"


def test_weights_that_peft_passes_over_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {
        name.replace("model.layers.1.", "model.language_model.layers.1."): t for name, t in tensors.items()
    }
    save_file(renamed, copy / "adapter_model.safetensors")
    command = ["--model", str(base), "--adapter", str(copy), "--out", str(tmp_path / "probe.json")]
    assert main(command) == 1
    assert not (tmp_path / "probe.json").exists()
    with pytest.raises(ModelError, match="PEFT does not read base_model"):
        load_adapter(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), copy)
