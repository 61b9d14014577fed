"""Which modules adapters may touch: read from the weights."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from serve.engine.lora_targets import linear_modules
from serve.engine.spec import EngineSpec, command

LLAMA = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def test_the_linear_layers_of_the_built_in_model(smollm2: Path) -> None:
    assert linear_modules(smollm2) == LLAMA
    argv = command(EngineSpec("main", "smollm2", str(smollm2)), 1)
    at = argv.index("--lora-target-modules")
    assert argv[at + 1 : at + 8] == LLAMA


def test_heads_norms_and_embeddings_are_left_out(tmp_path: Path) -> None:
    save_file(
        {
            "transformer.wte.weight": torch.zeros(4, 4),
            "transformer.h.0.attn.c_attn.weight": torch.zeros(4, 12),
            "transformer.h.0.ln_1.weight": torch.zeros(4),
            "transformer.h.0.conv.weight": torch.zeros(4, 1, 3),
            "lm_head.weight": torch.zeros(4, 4),
        },
        tmp_path / "model.safetensors",
    )
    assert linear_modules(tmp_path) == ["c_attn"]


def test_without_safetensors_nothing_is_restricted(tmp_path: Path) -> None:
    assert linear_modules(tmp_path) is None
    assert "--lora-target-modules" not in command(EngineSpec("main", "m", "some/hub-id"), 1)
