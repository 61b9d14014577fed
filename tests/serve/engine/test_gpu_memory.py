"""What an engine takes of a card, and which card."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.gpu_cards import Card
from serve.engine.cards import gpu_memory
from serve.engine.cards.gpu_memory import GB, ModelSize, parse_memory, read_model_size
from serve.engine.cards.placement import Cards, Placement, choose
from serve.engine.spec import EngineSpec, command
from serve.errors import EngineFailed
from tests.support.fake_cards import card

pytestmark = pytest.mark.anyio
SMOL = ModelSize(270 * 10**6, 23_040, 8192, 576, 1536, 49_152, 700_000)
EIGHT_B = ModelSize(16 * GB, 131_072, 131_072, 4096, 14_336, 128_256, 5_000_000)
SEVENTY_B = ModelSize(141 * GB, 327_680, 131_072, 8192, 28_672, 128_256, 26_000_000)


def spec(name: str = "main", **more: object) -> EngineSpec:
    return EngineSpec(name, "base", "hub/model", device="cuda", **more)  # type: ignore[arg-type]


def placed(spec: EngineSpec, model: ModelSize | None, *cards: Card) -> Placement:
    return choose(spec, model, cards or [card()])


# ---- the setting


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.5, 0.5),
        (1, 1),
        ("0.25", 0.25),
        ("12GB", 12 * GB),
        ("12 gb", 12 * GB),
        ("1.5GiB", 1.5 * 2**30),
        ("800MB", 8e8),
    ],
)
def test_gpu_memory_is_a_share_or_a_size(given: float | str, expected: float) -> None:
    assert parse_memory(given) == pytest.approx(expected)


@pytest.mark.parametrize("given", [0, -1, 1.5, "12", "much", "", "0GB", float("nan"), "90%"])
def test_another_gpu_memory_is_refused_by_name(given: float | str) -> None:
    with pytest.raises(
        ValueError, match=r"gpu_memory is .*accepted: a share of the card above 0 and up to 1"
    ):
        spec(gpu_memory=given)


# ---- the size of a model


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = {
        "model.embed_tokens.weight": np.zeros((100, 64), np.float32),
        "model.layers.0.mlp.up_proj.weight": np.zeros((128, 64), np.float32),
        "model.layers.0.mlp.packed": np.zeros(500, np.uint8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_a_models_size_is_that_of_its_weights_as_they_are_served(model_dir: Path) -> None:
    found = read_model_size(model_dir, {})
    assert found is not None
    assert found.weights == 2 * (6400 + 8192) + 500
    assert found.kv_per_token == 2 * 2 * 2 * 16 * 2
    assert found.max_length == 512
    assert found.lora_bytes_per_rank == 2 * (128 + 64)
    wide = read_model_size(model_dir, {"dtype": "float32", "max-model-len": 128, "kv-cache-dtype": "fp8"})
    assert wide is not None
    assert wide.weights == 4 * (6400 + 8192) + 500
    assert wide.kv_per_token == 2 * 2 * 2 * 16
    assert wide.max_length == 128


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_a_model_whose_files_do_not_say_its_size_has_none(damage: str, model_dir: Path) -> None:
    (model_dir / damage).write_bytes(b"\x02")
    assert read_model_size(model_dir, {}) is None
    (model_dir / damage).unlink()
    assert read_model_size(model_dir, {}) is None
    assert read_model_size(None, {}) is None


# ---- how much of a card


def test_a_small_model_takes_a_small_part_of_a_large_card() -> None:
    found = placed(spec(), SMOL)
    assert found.need is not None
    assert found.need.tokens == 131_072
    assert found.arguments["kv-cache-memory-bytes"] == (131_072 + gpu_memory.RESERVED_TOKENS) * 23_040
    assert found.taken < 8 * GB
    assert found.arguments["gpu-memory-utilization"] == pytest.approx(found.taken / (80 * GB), abs=0.002)
    assert "max-model-len" not in found.arguments


@pytest.mark.parametrize("block", [16, 128])
def test_the_least_cache_holds_a_request_of_the_whole_context(block: int) -> None:
    found = placed(spec(kv_cache_tokens=gpu_memory.MIN_TOKENS), SMOL)
    assert "max-model-len" not in found.arguments
    # vLLM refuses to start where one block, which it keeps for itself, comes on top of what one request needs.
    needed = (math.ceil(SMOL.max_length / block) + 1) * block * SMOL.kv_per_token
    assert found.arguments["kv-cache-memory-bytes"] >= needed


def test_an_8b_model_leaves_room_for_training_beside_it() -> None:
    found = placed(spec(), EIGHT_B)
    assert found.need is not None
    assert found.need.tokens == 131_072
    assert 80 * GB - found.taken > gpu_memory.training_room(EIGHT_B)


def test_the_cache_shrinks_where_training_needs_the_room_and_so_does_the_context() -> None:
    found = placed(spec(), EIGHT_B, card(free=48, total=48))
    assert found.need is not None
    assert 8192 <= found.need.tokens < 131_072
    assert 48 * GB - found.taken >= gpu_memory.training_room(EIGHT_B, four_bit=True)
    assert found.arguments["max-model-len"] == "auto"
    own = placed(spec(args={"max_model_len": 4096}), EIGHT_B, card(free=48, total=48))
    assert "max-model-len" not in own.arguments


def test_a_model_that_does_not_fit_is_refused_with_its_parts() -> None:
    with pytest.raises(EngineFailed) as caught:
        placed(spec(), SEVENTY_B)
    assert "weights 141.0" in caught.value.message
    assert "card 0 (NVIDIA H100 80GB HBM3) has 78.4 GB to give" in caught.value.message


def test_a_stated_size_is_the_engines_whole_share() -> None:
    for given in ("20GB", 0.25):
        found = placed(spec(gpu_memory=given), EIGHT_B)
        assert found.taken == 20 * GB
        assert found.arguments["gpu-memory-utilization"] == 0.25
        assert "kv-cache-memory-bytes" not in found.arguments
        assert found.arguments["max-model-len"] == "auto"
    with pytest.raises(EngineFailed, match=r"engines.main.gpu_memory is 60.0 GB and card 0 .* 40.0 GB free"):
        placed(spec(gpu_memory="60GB"), SMOL, card(free=40))


@pytest.mark.parametrize("name", ["gpu_memory_utilization", "--kv-cache-memory-bytes"])
def test_vllms_own_arguments_have_the_last_word(name: str) -> None:
    found = placed(spec(args={name: 0.5}), SMOL)
    assert found.arguments == {}
    assert found.environment == {"CUDA_VISIBLE_DEVICES": "0"}


def test_vllms_own_context_is_left_room_on_a_small_card() -> None:
    small = ModelSize(15 * GB, 131_072, 8192, 4096, 14_336, 128_256, 5_000_000)
    found = placed(spec(max_loras=1, max_lora_rank=16), small, card(free=24, total=24))
    assert found.arguments["gpu-memory-utilization"] * 24 <= 24 - 0.7


def test_a_model_of_unknown_size_takes_most_of_what_is_free() -> None:
    found = placed(spec(), None, card(free=40))
    assert 0.4 < found.arguments["gpu-memory-utilization"] < 0.5


def test_the_command_line_has_what_was_decided() -> None:
    found = placed(spec(), SMOL)
    line = " ".join(command(dataclasses.replace(spec(), args=found.arguments), 80))
    assert f"--kv-cache-memory-bytes {found.arguments['kv-cache-memory-bytes']}" in line
    assert "--gpu-memory-utilization 0.0" in line


# ---- which card


def test_the_card_with_most_room_is_taken() -> None:
    found = placed(spec(), SMOL, card(0, free=20), card(1, free=70), card(2, free=60))
    assert found.environment == {"CUDA_VISIBLE_DEVICES": "1"}


def test_an_engine_over_several_cards_takes_those_with_most_room() -> None:
    several = spec(args={"tensor-parallel-size": 2})
    found = placed(several, SEVENTY_B, card(0, free=30), card(1), card(2))
    assert found.environment == {"CUDA_VISIBLE_DEVICES": "1,2"}
    assert 71 * GB < found.taken < 80 * GB
    assert found.arguments == {"gpu-memory-utilization": 0.98, "max-model-len": "auto"}
    with pytest.raises(EngineFailed, match=r"2 cards are asked for .* and 1 can be used"):
        placed(several, SEVENTY_B, card())


def test_the_operators_choice_of_a_card_is_kept() -> None:
    found = placed(spec(env={"CUDA_VISIBLE_DEVICES": "0"}), SMOL, card(0, free=20), card(1))
    assert [c.index for c in found.cards] == [0]
    assert found.environment == {}


def test_a_card_that_cannot_be_measured_is_left_to_vllm() -> None:
    assert choose(spec(), SMOL, []) == Placement((), 0, {}, {})
    assert choose(spec(gpu_memory=0.3), SMOL, []).arguments == {"gpu-memory-utilization": 0.3}


async def test_engines_that_start_together_count_each_others_part() -> None:
    now = [card(0), card(1)]
    cards = Cards(lambda: now)
    half = {"gpu_memory": "50GB"}
    first, second = await cards.place(spec("a", **half)), await cards.place(spec("b", **half))
    assert {first.cards[0].index, second.cards[0].index} == {0, 1}
    with pytest.raises(EngineFailed, match=r"30.0 GB free"):
        await cards.place(spec("c", **half))
    now[:] = [card(0, free=29), card(1, free=29)]  # what they hold by now counts once
    with pytest.raises(EngineFailed, match=r"29.0 GB free"):
        await cards.place(spec("c", **half))
    cards.settle("a")
    cards.settle("b")
    assert (await cards.place(spec("c", gpu_memory="20GB"))).taken == 20 * GB
    cards.release("a")
    now[:] = [card(0), card(1, free=29)]
    assert (await cards.place(spec("d", **half))).cards[0].index == 0


async def test_an_engine_that_starts_again_does_not_count_its_own_part() -> None:
    cards = Cards(lambda: [card()])
    for _ in range(2):
        assert (await cards.place(spec(gpu_memory="60GB"))).taken == 60 * GB
