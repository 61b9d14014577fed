"""A model in bfloat16 that computes in float32, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.training.memory.wide_layers import computed_in_float32
from tests.support.families import FAMILIES, make_family

IDS = torch.tensor([[65, 66, 67, 68, 69, 70]])


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi", "qwen3_moe"])
def test_it_computes_what_the_converted_model_computes(name: str, tmp_path: Path) -> None:
    assert name in FAMILIES
    folder = make_family(tmp_path / name, name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    widest: list[int] = []

    def watch(*_: object) -> None:
        wide = [p for p in model.parameters() if p.dtype == torch.float32]
        widest.append(len(wide))

    for module in model.modules():
        module.register_forward_hook(watch)
    with torch.no_grad(), computed_in_float32(model):
        found = model(IDS).logits
    after = model.state_dict()
    assert all(
        after[key].dtype == value.dtype and torch.equal(after[key], value) for key, value in before.items()
    )
    assert max(widest) <= 2, "one layer's weights, with its bias, at a time"
    assert not any(p.dtype == torch.float32 for p in model.parameters())
    with torch.no_grad():
        wanted = model.float()(IDS).logits
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_weights_are_put_back_after_a_fault() -> None:
    class Fails(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise MemoryError

    model = Fails(2, 2).bfloat16()
    with pytest.raises(MemoryError), computed_in_float32(model):
        model(torch.ones(1, 2))
    assert model.weight.dtype == torch.bfloat16
