"""Every rule of the adapter check, each broken alone in a copy of a good adapter that PEFT wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve.adapters.validation import CONFIG, NAME, WEIGHTS, check
from serve.errors import AdapterRefused
from tests.support.models import make_lora, make_tiny_base, read_config

Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_lora(tmp_path_factory.mktemp("loras") / "good", base, rank=4)


def with_config(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        config = json.loads((path / CONFIG).read_text()) | changes
        (path / CONFIG).write_text(json.dumps(config))

    return change


def with_tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tensors = load_file(path / WEIGHTS)
        edit(tensors)
        save_file(tensors, path / WEIGHTS)

    return change


def set_value(value: float, dtype: torch.dtype = torch.float32) -> Callable[[Path], None]:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        changed = tensors[Q0.format("A")].clone()
        changed[1, 2] = value
        tensors[Q0.format("A")] = changed
        for name, tensor in tensors.items():
            tensors[name] = tensor.to(dtype)

    return with_tensors(edit)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda p: (p / CONFIG).unlink(), "adapter_config.json is missing"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "config not JSON": (lambda p: (p / CONFIG).write_text("{"), "can not be read as JSON"),
    "config a list": (lambda p: (p / CONFIG).write_text("[]"), "must be a JSON object"),
    "pickle": (lambda p: (p / "adapter_model.bin").write_bytes(b"x"), "adapter_model.bin is a pickle"),
    "link outside": (lambda p: (p / "x").symlink_to("/etc/hostname"), "x is a link to a path outside"),
    "truncated": (lambda p: (p / WEIGHTS).write_bytes((p / WEIGHTS).read_bytes()[:-8]), "is damaged"),
    "not safetensors": (lambda p: (p / WEIGHTS).write_bytes(b"PK" * 99), "is damaged"),
    "prefix tuning": (with_config(peft_type="PREFIX_TUNING"), "peft_type is 'PREFIX_TUNING'"),
    "DoRA": (with_config(use_dora=True), "use_dora is set"),
    "modules to save": (with_config(modules_to_save=["lm_head"]), "modules_to_save is set"),
    "bias": (with_config(bias="all"), "bias is 'all'"),
    "PiSSA": (with_config(init_lora_weights="pissa"), "init_lora_weights 'pissa'"),
    "rank too high": (with_config(r=32), "r is 32.*accepted: 1 to 16"),
    "rank pattern too high": (with_config(rank_pattern={"q_proj": 64}), r"rank_pattern\['q_proj'\] is 64"),
    "rank zero": (with_config(r=0), "r is 0"),
    "alpha missing": (with_config(lora_alpha=None), "lora_alpha is None"),
    "rank disagrees with tensors": (with_config(r=8), r"lora_A has shape \[4, \d+\].*need 8 x \d+"),
    "NaN": (set_value(float("nan")), "q_proj.lora_A.weight holds NaN"),
    "infinite": (set_value(float("-inf")), "q_proj.lora_A.weight holds NaN or infinite"),
    "NaN in bfloat16": (set_value(float("nan"), torch.bfloat16), "q_proj.lora_A.weight holds NaN"),
    "overflow of float16": (set_value(1e9, torch.float16), "q_proj.lora_A.weight holds NaN or infinite"),
    "integers": (
        with_tensors(lambda t: t.update({Q0.format("A"): t[Q0.format("A")].to(torch.int8)})),
        "is of type I8; accepted: F32, F16, BF16",
    ),
    "wrong shape": (
        with_tensors(lambda t: t.update({Q0.format("A"): torch.zeros(4, 64)})),
        r"lora_A has shape \[4, 64\].*need 4 x 128",
    ),
    "half a pair": (with_tensors(lambda t: t.pop(Q0.format("B"))), "has no lora_B"),
    "unknown tensor": (
        with_tensors(lambda t: t.update({"head.weight": torch.zeros(2)})),
        "head.weight is not",
    ),
    "layer that does not exist": (
        with_tensors(
            lambda t: t.update({k.replace("layers.0", "layers.99"): v.clone() for k, v in list(t.items())})
        ),
        "layers.99.*layers are 0 to 1",
    ),
    "nothing inside": (with_tensors(lambda t: t.clear()), "holds no tensors"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_is_refused_and_named(fault: str, good: Path, base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(good, tmp_path / "adapter"))
    breaking, why = BROKEN[fault]
    breaking(copy)
    with pytest.raises(AdapterRefused, match=why):
        check(copy, read_config(base), 16)


def test_a_good_adapter_passes_and_is_described(good: Path, base: Path) -> None:
    facts = check(good, read_config(base), 16, base)
    assert NAME.fullmatch(facts.hash)
    assert (facts.rank, facts.tensors, facts.scale) == (4, 2 * 7 * 2, 1.0)
    assert facts.target_modules == (
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    )  # fmt: skip
    assert facts.bytes == (good / WEIGHTS).stat().st_size


def test_variants_that_vllm_serves_pass(base: Path, tmp_path: Path) -> None:
    for name, settings in {
        "rslora": {"use_rslora": True},
        "pattern": {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 4}},
        "gaussian": {"init_lora_weights": "gaussian"},
    }.items():
        path = make_lora(tmp_path / name, base, rank=4, **settings)
        assert check(path, read_config(base), 16).rank == (8 if name == "pattern" else 4)


def test_the_name_follows_the_content(good: Path, base: Path, tmp_path: Path) -> None:
    config = read_config(base)
    name = check(good, config, 16).hash
    copy = Path(shutil.copytree(good, tmp_path / "copy"))
    with_config(base_model_name_or_path="/elsewhere", revision="x")(copy)
    assert check(copy, config, 16).hash == name, "where it came from does not change what it is"
    with_config(lora_alpha=8)(copy)
    assert check(copy, config, 16).hash != name, "a setting that changes the outputs does"
    set_value(0.25)(copy)
    assert check(copy, config, 16).hash != name


def test_another_base_is_noticed(good: Path, tmp_path: Path) -> None:
    other = make_tiny_base(tmp_path / "other", layers=3)
    with pytest.raises(AdapterRefused, match=r"num_hidden_layers is 2; this base model has 3"):
        check(good, read_config(other), 16)


def test_another_chat_template_is_noticed(good: Path, base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(good, tmp_path / "copy"))
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(AdapterRefused, match="another chat format"):
        check(copy, read_config(base), 16, base)
