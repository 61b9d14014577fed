"""Every rule of the adapter check, each broken alone in a copy of a good adapter that PEFT wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve.adapters.files import CONFIG, WEIGHTS, needs_staging, stage
from serve.adapters.validation import NAME, check
from serve.errors import AdapterRefused
from tests.support.models import ALL_LINEAR, make_lora, make_tiny_base, read_config

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


def link_outside(path: Path) -> None:
    elsewhere = (path / WEIGHTS).rename(path.parent / "elsewhere.safetensors")
    (path / WEIGHTS).symlink_to(elsewhere)


def renamed(old: str, new: str, layer: int | None = None) -> Callable[[Path], None]:
    """Weights whose names hold `old` get `new` instead, in one layer or in all."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            if old in name and (layer is None or f"layers.{layer}." in name):
                tensors[name.replace(old, new, 1)] = tensors.pop(name)

    return with_tensors(edit)


def add(module: str, outs: int = 128, ins: int = 128) -> Callable[[Path], None]:
    pair = {"A": torch.ones(4, ins), "B": torch.ones(outs, 4)}
    return with_tensors(
        lambda t: t.update({f"base_model.model.{module}.lora_{side}.weight": pair[side] for side in "AB"})
    )


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda path: [change(path) for change in changes] and None


NO_MODULE = r"the base model has no module {}\S*, so its weights would be ignored; accepted: .* such as model.layers.\d"
# Adapters that PEFT and vLLM take and do not apply, or each in its own way.
NOT_APPLIED: dict[str, tuple[Callable[[Path], object], str]] = {
    "through a multimodal wrapper": (
        renamed("model.layers", "model.language_model.layers"),
        NO_MODULE.format("model.language_model.layers.0"),
    ),
    "the other order of it": (
        renamed("base_model.model.model.layers", "base_model.model.language_model.model.layers"),
        NO_MODULE.format("language_model.model.layers.\\d"),
    ),
    "a prefix short": (renamed("model.model.layers", "model.layers"), NO_MODULE.format("layers.0")),
    "wrapped twice": (
        renamed("base_model.model.", "base_model.model.base_model.model."),
        NO_MODULE.format("base_model.model.model.layers.0"),
    ),
    "compiled": (
        renamed("model.model.layers", "model._orig_mod.model.layers"),
        NO_MODULE.format("_orig_mod.model.layers.0"),
    ),
    "of a parallel wrapper": (
        renamed("model.model.layers", "model.module.model.layers"),
        NO_MODULE.format("module.model.layers"),
    ),
    "half renamed": (
        renamed("model.layers", "model.language_model.layers", 1),
        NO_MODULE.format("model.language_model.layers.1"),
    ),
    "one module renamed": (renamed("q_proj", "query", 0), NO_MODULE.format("model.layers.0.self_attn.query")),
    "another family's names": (
        renamed("self_attn", "attention"),
        NO_MODULE.format("model.layers.0.attention"),
    ),
    "a layer lost": (
        with_tensors(lambda t: [t.pop(name) for name in list(t) if "layers.1." in name]),
        r"no weights for model.layers.1.mlp.down_proj \(and 6 more\), which target_modules .* names",
    ),
    "a module lost": (
        with_tensors(lambda t: [t.pop(name) for name in list(t) if "0.self_attn.k_proj" in name]),
        "no weights for model.layers.0.self_attn.k_proj, which target_modules",
    ),
    "weights that are not targeted": (
        with_config(target_modules=["q_proj"]),
        r"has weights \(and \d+ more\), but target_modules .* does not name it, so PEFT ignores them",
    ),
    "a target that no module has": (
        with_config(target_modules=[*ALL_LINEAR, "zz_proj"]),
        "target_modules names zz_proj, and the base model has no such module",
    ),
    "not a regular expression": (with_config(target_modules="(q_proj"), "target_modules cannot be read"),
    "the head": (
        both(add("lm_head", 260), with_config(target_modules=[*ALL_LINEAR, "lm_head"])),
        "lm_head is outside the blocks of the base model, where the engine adapts nothing; accepted: down_proj",
    ),
    "the embedding": (
        with_tensors(
            lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 260)})
        ),
        "embed_tokens.lora_embedding_A is not a LoRA weight of a linear layer",
    ),
    "a whole module": (
        with_tensors(
            lambda t: t.update({"base_model.model.model.embed_tokens.weight": torch.ones(260, 128)})
        ),
        "embed_tokens.weight is not a LoRA weight",
    ),
    "alpha by pattern that is no number": (
        with_config(alpha_pattern={"q_proj": "8"}),
        r"alpha_pattern\['q_proj'\] is '8'",
    ),
}


@pytest.mark.parametrize("fault", NOT_APPLIED)
def test_weights_that_would_be_ignored_are_refused(
    fault: str, good: Path, base: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(good, tmp_path / "adapter"))
    breaking, why = NOT_APPLIED[fault]
    breaking(copy)
    with pytest.raises(AdapterRefused, match=why):
        check(copy, read_config(base), 16, base)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda p: (p / CONFIG).unlink(), "adapter_config.json is missing"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "config not JSON": (lambda p: (p / CONFIG).write_text("{"), "cannot be read as JSON"),
    "config a list": (lambda p: (p / CONFIG).write_text("[]"), "must be a JSON object"),
    "pickle alone": (
        lambda p: (p / WEIGHTS).rename(p / "adapter_model.bin"),
        "adapter_model.bin is a pickle file.*accepted: adapter_model.safetensors",
    ),
    "link outside": (link_outside, "adapter_model.safetensors is a link to a path outside"),
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


def test_adapter_of_another_base_is_rejected(good: Path, tmp_path: Path) -> None:
    other = make_tiny_base(tmp_path / "other", layers=3)
    with pytest.raises(AdapterRefused, match=r"num_hidden_layers is 2; this base model has 3"):
        check(good, read_config(other), 16)


def test_adapter_with_another_chat_template_is_rejected(good: Path, base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(good, tmp_path / "copy"))
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(AdapterRefused, match="another chat format"):
        check(copy, read_config(base), 16, base)


def test_other_files_beside_an_adapter_are_left_alone(good: Path, base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(good, tmp_path / "copy"))
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.bin"):
        (copy / name).write_bytes(b"x")
    (copy / "runs").symlink_to("/tmp")
    assert check(copy, read_config(base), 16, base) == check(good, read_config(base), 16, base)
    assert not needs_staging(copy)
    staged = stage(copy, tmp_path / "staged")
    assert sorted(path.name for path in staged.iterdir()) == [CONFIG, WEIGHTS]


def test_the_hugging_face_cache_links_to_its_own_files(good: Path, base: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copy(good / name, blobs / f"hash-of-{name}")
        (snapshot / name).symlink_to(f"../../blobs/hash-of-{name}")
    assert check(snapshot, read_config(base), 16, base) == check(good, read_config(base), 16, base)


def test_an_adapters_own_name_in_its_tensors_is_left_out(good: Path, base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(good, tmp_path / "copy"))
    renamed(".weight", ".mine.weight")(copy)
    assert needs_staging(copy)
    staged = stage(copy, tmp_path / "staged")
    kept, want = load_file(staged / WEIGHTS), load_file(good / WEIGHTS)
    assert kept.keys() == want.keys()
    assert all(torch.equal(kept[name], want[name]) for name in want)
    check(staged, read_config(base), 16, base)
    renamed(".mine.weight", ".other.weight", 1)(copy)
    assert not needs_staging(copy), "two adapters in one file are not one"
    with pytest.raises(AdapterRefused, match=r"lora_A\.(mine|other)\.weight is not a LoRA weight"):
        check(copy, read_config(base), 16, base)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": r"(?:model\.layers\.\d+\.)?self_attn\.(?:q_proj|o_proj)"},
        {"target_modules": r".*\.(q|v)_proj"},
        {"target_modules": ["model.layers.1.self_attn.q_proj", "mlp.down_proj"]},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": "all-linear", "exclude_modules": r".*mlp.*"},
    ],
)
def test_every_way_to_name_targets_is_read_as_peft_does(
    settings: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    path = tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, **settings)).save_pretrained(
        path
    )
    check(path, read_config(base), 16, base)
    first = sorted(load_file(path / WEIGHTS))[0].split(".lora_")[0]
    with_tensors(lambda t: [t.pop(name) for name in list(t) if name.startswith(f"{first}.")])(path)
    with pytest.raises(AdapterRefused, match="no weights"):
        check(path, read_config(base), 16, base)


def test_zero_adapter_is_reported(good: Path, base: Path, tmp_path: Path) -> None:
    config = read_config(base)
    assert not check(good, config, 16, base).is_zero
    for number, zero in enumerate(("lora_B", "lora_A", "lora_")):
        copy = Path(shutil.copytree(good, tmp_path / str(number)))
        with_tensors(
            lambda t, zero=zero: t.update({k: torch.zeros_like(v) * -1 for k, v in t.items() if zero in k})
        )(copy)
        assert check(copy, config, 16, base).is_zero


@pytest.mark.parametrize("family", ["gpt2", "phi3", "qwen2", "gemma2", "olmo2"])
def test_other_families_adapters_pass_by_the_names_of_their_weights(family: str, tmp_path: Path) -> None:
    """Fused projections, layers that store (in, out), and weights saved without the head."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 96, "vocab_size": 300, "head_dim": 16, "pad_token_id": 0}
    if family == "gpt2":
        sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    (model.transformer if family == "gpt2" else model).save_pretrained(tmp_path / "base")
    peft = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", fan_in_fan_out=family == "gpt2")
    )
    peft.save_pretrained(tmp_path / "adapter")
    config = read_config(tmp_path / "base")
    assert check(tmp_path / "adapter", config, 16, tmp_path / "base").tensors > 8
    renamed(".0.", ".0.zz.")(tmp_path / "adapter")
    with pytest.raises(AdapterRefused, match="the base model has no module"):
        check(tmp_path / "adapter", config, 16, tmp_path / "base")
