"""Mixtures of experts are recognised by the configuration classes of transformers, and are not packed."""

from __future__ import annotations

import pytest
import transformers

from align.training.packed.packed_model import why_not
from common.architecture import is_mixture_of_experts

MIXTURES = [
    *(
        "MixtralConfig",
        "GptOssConfig",
        "Qwen3MoeConfig",
        "OlmoeConfig",
        "GraniteMoeConfig",
        "DeepseekV3Config",
    ),
    *("Glm4MoeConfig", "Ernie4_5_MoeConfig", "DbrxConfig", "Llama4Config", "Qwen3VLMoeConfig", "AriaConfig"),
]
DENSE = [
    "LlamaConfig",
    "Qwen3Config",
    "Gemma2Config",
    "Gemma3Config",
    "MistralConfig",
    "Phi3Config",
    "Olmo2Config",
]


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_is_recognised_by_its_configuration(name: str) -> None:
    assert is_mixture_of_experts(getattr(transformers, name)().to_dict())


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_model_is_no_mixture(name: str) -> None:
    assert not is_mixture_of_experts(getattr(transformers, name)().to_dict())


def test_a_mixture_without_num_experts_is_not_packed() -> None:
    config = transformers.GraniteMoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert why_not(model, 128) == "mixture of experts"
