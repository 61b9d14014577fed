"""Adapters combined by PEFT: what the new one does is what the weights say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from align.training.blend import BlendError, Options, blend, main
from align.training.probe import load_adapter, logprobs
from tests.support.models import make_lora, make_tiny_base

TOKENS = list(range(20, 60))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_lora(tmp_path_factory.mktemp("one") / "adapter", base, seed=1, rank=4, lora_alpha=8)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    path = tmp_path_factory.mktemp("other") / "adapter"
    return make_lora(path, base, seed=2, rank=2, target_modules=("q_proj", "down_proj"))


def served(base: Path, adapter: Path) -> list[float]:
    return logprobs(load_adapter(AutoModelForCausalLM.from_pretrained(base).eval(), adapter), TOKENS)


def weighted_sum(base: Path, parts: list[tuple[Path, float]]) -> list[float]:
    """What the base says with the sum of the changes added to its weights by hand."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    for path, weight in parts:
        config = json.loads((path / "adapter_config.json").read_text())
        tensors = load_file(path / "adapter_model.safetensors")
        scale = config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1)
        for name in [name for name in tensors if "lora_A" in name]:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            change = tensors[name.replace("lora_A", "lora_B")] @ tensors[name] * scale * weight
            with torch.no_grad():
                model.get_submodule(module).weight += change  # type: ignore[operator]
    return logprobs(model, TOKENS)


@pytest.mark.parametrize("combination", ["cat", "svd"])
def test_two_halves_of_an_adapter_are_the_adapter(
    combination: str, base: Path, one: Path, tmp_path: Path
) -> None:
    found = blend(str(base), [(one, 0.5), (one, 0.5)], tmp_path / "out", Options(combination))
    assert found["distance"] == pytest.approx(0, abs=1e-5)
    assert found["rank"] == {"cat": 8, "svd": 4}[combination]
    assert served(base, tmp_path / "out") == pytest.approx(served(base, one), abs=1e-4)


def test_linear_adds_factors_and_says_how_far_that_is_from_the_sum(
    base: Path, one: Path, tmp_path: Path
) -> None:
    """Both factors are weighted by the root and then added: two halves of one adapter have twice its effect."""
    found = blend(str(base), [(one, 0.5), (one, 0.5)], tmp_path / "out", Options("linear"))
    assert found["distance"] == pytest.approx(1, abs=1e-5)
    assert served(base, tmp_path / "out") == pytest.approx(weighted_sum(base, [(one, 2.0)]), abs=1e-4)


def test_cat_is_the_weighted_sum_of_adapters_of_other_ranks_and_modules(
    base: Path, one: Path, other: Path, tmp_path: Path
) -> None:
    parts = [(one, 0.7), (other, -0.3)]
    found = blend(str(base), parts, tmp_path / "out", Options())
    assert (found["rank"], found["combination"]) == (6, "cat")
    assert found["distance"] == pytest.approx(0, abs=1e-5)
    assert served(base, tmp_path / "out") == pytest.approx(weighted_sum(base, parts), abs=1e-4)
    assert not list(tmp_path.glob(".*"))


def test_rank_stabilised_scaling_is_not_applied_twice(base: Path, tmp_path: Path) -> None:
    stable = make_lora(tmp_path / "rs", base, seed=3, rank=4, use_rslora=True)
    blend(str(base), [(stable, 0.5)], tmp_path / "out", Options())
    assert served(base, tmp_path / "out") == pytest.approx(weighted_sum(base, [(stable, 0.5)]), abs=1e-4)


def test_svd_says_what_its_rank_leaves_out(base: Path, one: Path, other: Path, tmp_path: Path) -> None:
    parts = [(one, 1.0), (other, 1.0)]
    full = blend(str(base), parts, tmp_path / "full", Options("svd", rank=6))
    small = blend(str(base), parts, tmp_path / "small", Options("svd", rank=1))
    assert full["distance"] == pytest.approx(0, abs=1e-4)
    assert 0.1 < small["distance"] < 1


@pytest.mark.parametrize("combination", ["dare_linear", "dare_ties_svd", "ties", "magnitude_prune"])
def test_a_seed_decides_what_is_drawn(combination: str, base: Path, one: Path, tmp_path: Path) -> None:
    again = make_lora(tmp_path / "again", base, seed=4, rank=4)
    found = []
    for n, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(n)
        blend(str(base), [(one, 0.6), (again, 0.4)], out, Options(combination, density=0.5, seed=seed))
        found.append((out / "adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert (found[0] == found[2]) == ("dare" not in combination)


def test_layers_that_the_first_adapter_does_not_have_are_not_lost(
    base: Path, one: Path, tmp_path: Path
) -> None:
    """PEFT takes `layers_to_transform` from the first adapter."""
    first = make_lora(tmp_path / "first", base, seed=5, rank=4, layers_to_transform=[0])
    with pytest.raises(BlendError, match=r"leaves out .*layers\.1\."):
        blend(str(base), [(first, 0.5), (one, 0.5)], tmp_path / "out", Options())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first"]


def test_what_peft_does_not_combine_is_one_line(
    base: Path, one: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model", str(base), "--adapter", f"{one}:0.5", "--adapter", f"{other}:0.5"]
    assert main([*argv, "--out", str(tmp_path / "out"), "--combination", "linear"]) == 1
    assert "must have the same r value" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main([*argv, "--out", str(one)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_base_is_not_read(base: Path, one: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((base / "config.json").read_bytes())
    blend(str(bare), [(one, 2.0)], tmp_path / "out", Options("svd"))
    model = AutoModelForCausalLM.from_pretrained(base)
    assert isinstance(PeftModel.from_pretrained(model, str(tmp_path / "out")), PeftModel)
