"""Fused layers compute what the layers that they replace compute, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from align.training.fused.lora import fuse_lora
from align.training.fused.norms import fuse_norms

IN, OUT = 64, 96


def linear(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "float32":
        return nn.Linear(IN, OUT)
    if kind == "bfloat16":
        return nn.Linear(IN, OUT).bfloat16()
    layer = Linear4bit(IN, OUT, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = Params4bit(torch.randn(OUT, IN) / 8, requires_grad=False, quant_type="nf4").to("cpu")
    return layer


def adapted(layer: nn.Module, **options: Any) -> Any:
    model = get_peft_model(
        nn.Sequential(layer).requires_grad_(False), LoraConfig(r=4, target_modules=["0"], **options)
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return model


def results(model: Any, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the output, and the gradients of the input and of the adapter."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 7, IN, generator=generator).to(dtype).requires_grad_()
    upstream = torch.randn(2, 7, OUT, generator=generator).to(dtype)
    with torch.autocast("cpu", dtype) if dtype == torch.bfloat16 else nullcontext():
        out = model(x)
    yield out.detach().float()
    trained = [p for p in model.parameters() if p.requires_grad]
    for gradient in torch.autograd.grad((out * upstream).float().sum(), [x, *trained]):
        yield gradient.float()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "nf4"])
def test_a_fused_lora_layer_gives_pefts_output_and_gradients(kind: str) -> None:
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    model = adapted(linear(kind))
    expected = list(results(model, dtype))
    assert fuse_lora(model) == 1
    tolerance = 2e-2 if kind == "bfloat16" else 1e-5
    for ours, theirs in zip(results(model, dtype), expected, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < tolerance


def test_a_fused_layer_without_its_adapter_is_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = linear("float32")
    model = adapted(layer)
    fuse_lora(model)
    x = torch.randn(3, IN)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), layer(x))
    whole = model(x)
    model.merge_adapter()
    torch.testing.assert_close(model(x), whole, atol=1e-5, rtol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_what_a_fused_layer_cannot_do_is_left_to_peft(options: dict[str, Any]) -> None:
    assert fuse_lora(adapted(linear("float32"), **options)) == 0
    two = adapted(linear("float32"))
    two.add_adapter("second", LoraConfig(r=2, target_modules=["0"]))
    assert fuse_lora(two) == 0


def test_fused_norms_are_the_models_own(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    embedded = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    run: Callable[[], list[Tensor]] = lambda: [  # noqa: E731
        (out := model(inputs_embeds=embedded).logits),
        *torch.autograd.grad(out.square().sum(), embedded),
    ]
    expected = run()
    assert fuse_norms(model) == 5
    for ours, theirs in zip(run(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_norms_that_compute_something_else_stay() -> None:
    norm = GemmaRMSNorm(16)
    nn.init.uniform_(norm.weight, 0.5, 1.5)  # it adds one
    assert fuse_norms(nn.Sequential(norm)) == 0
