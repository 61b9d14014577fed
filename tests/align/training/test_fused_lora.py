"""One-step LoRA layers against PEFT's own: values, gradients, and the adapter switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from align.training.cpu.fused_lora import fuse

IDS = torch.tensor([[5, 9, 3, 8, 8, 2, 11]])


def adapted(tiny: Path, nf4: bool, **config: Any) -> Any:
    torch.manual_seed(0)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    kwargs = {"quantization_config": quantization, "device_map": {"": "cpu"}} if nf4 else {}
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32, **kwargs)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
    # In evaluation mode bitsandbytes computes 4-bit layers on the CPU with a coarser kernel; training is compared here.
    return get_peft_model(base.train(), LoraConfig(task_type="CAUSAL_LM", **(settings | config)))


def gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(IDS).logits
    (logits.log_softmax(-1)[..., 1] * torch.arange(7.0)).sum().backward()
    return logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_same_values_and_gradients_as_peft(nf4: bool, rslora: bool, tiny: Path) -> None:
    plain, fused = (adapted(tiny, nf4, use_rslora=rslora) for _ in range(2))
    assert fuse(fused) == 14
    expected, wanted = gradients(plain)
    found, ours = gradients(fused)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert ours.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-4, rtol=1e-3)
    with torch.no_grad(), plain.disable_adapter(), fused.disable_adapter():
        torch.testing.assert_close(fused(IDS).logits, plain(IDS).logits, atol=1e-4, rtol=1e-4)


def test_what_it_does_not_know_stays_as_it_is(tiny: Path) -> None:
    assert fuse(adapted(tiny, False, lora_dropout=0.1)) == 0
    half = adapted(tiny, False)
    for parameter in half.parameters():
        parameter.data = parameter.data.bfloat16()
    assert fuse(half) == 0


def test_a_second_adapter_goes_through_peft(tiny: Path) -> None:
    plain, fused = (adapted(tiny, False) for _ in range(2))
    for model in (plain, fused):
        torch.manual_seed(1)
        model.add_adapter(
            "other",
            LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False),
        )
    fuse(fused)
    for model in (plain, fused):
        model.set_adapter("other")
    torch.testing.assert_close(fused(IDS).logits, plain(IDS).logits, atol=1e-5, rtol=1e-5)
