"""What is read of a base model's configuration and of the names of its modules."""

from __future__ import annotations

import pytest

from common.architecture import in_experts, in_tower, text_config


def test_a_configuration_of_text_alone_is_its_own() -> None:
    assert text_config({"hidden_size": 8}) == {"hidden_size": 8}
    nested = {"hidden_size": 8, "text_config": {"hidden_size": 16}}
    assert text_config(nested)["hidden_size"] == 16


@pytest.mark.parametrize(
    "module",
    [
        "model.layers.0.mlp.experts",
        "model.layers.0.mlp.experts.3.up_proj",
        "model.layers.0.mlp.shared_expert.down_proj",
        "model.layers.0.mlp.shared_expert_gate",
        "model.layers.0.block_sparse_moe.gate",
        "model.layers.0.mlp.router",
    ],
)
def test_experts_and_what_chooses_among_them(module: str) -> None:
    assert in_experts(module)
    assert not in_tower(module)


@pytest.mark.parametrize(
    "module", ["model.layers.0.mlp.gate_proj", "model.layers.0.self_attn.q_proj", "lm_head"]
)
def test_layers_of_a_dense_model_are_in_no_expert(module: str) -> None:
    assert not in_experts(module)


@pytest.mark.parametrize(
    "module", ["model.vision_tower.encoder.fc1", "visual.blocks.0.attn.qkv", "audio_encoder.fc"]
)
def test_towers(module: str) -> None:
    assert in_tower(module)
    assert not in_tower("model.language_model.layers.0.mlp.up_proj")
