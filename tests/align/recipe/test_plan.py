"""Plans against peaks that were measured (docs/benchmarks.md), and what they say when a run does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from align_helpers import write_rows

from align.errors import DataError, ModelError
from align.recipe.auto import facts_of, with_auto
from align.recipe.plan import PlanError, Rows, measure_rows, plan, require_fit
from align.recipe.recipe import load, names, resolve
from align.training.model import add_adapter, choose, load_base, trainable_parameters

SHAPES = {
    "65b": (8192, 22016, 80, 64, 64, 32000),
    "8b": (4096, 14336, 32, 32, 8, 128256),
    "7b": (4096, 14336, 32, 32, 8, 49152),
    "1b": (2048, 8192, 16, 32, 8, 128256, True),
    "135m": (576, 1536, 30, 9, 3, 49152, True),
}


def model_directory(out: Path, shape: str) -> Path:
    keys = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    names = (*keys, "vocab_size", "tie_word_embeddings")
    (out / "config.json").write_text(json.dumps(dict(zip(names, SHAPES[shape], strict=False))))
    return out


# Peak of torch.cuda.max_memory_allocated on one H100, in GB.
@pytest.mark.parametrize(
    ("shape", "qlora", "pairs", "length", "measured"),
    [
        ("65b", True, 1, 512, 37.49),
        ("65b", True, 1, 2048, 42.11),
        ("8b", False, 8, 512, 22.25),
        ("8b", True, 8, 512, 9.27),
    ],
)
def test_gpu_estimates_within_15_percent(
    shape: str, qlora: bool, pairs: int, length: int, measured: float, tmp_path: Path
) -> None:
    params = {
        "per_device_train_batch_size": pairs,
        "max_length": length,
        "optim": "adamw_8bit",
        "gradient_checkpointing": True,
    }
    found = plan(
        model_directory(tmp_path, shape),
        resolve("dpo", qlora, params),
        Rows(8, length / 2, length / 2, length),
        "cuda",
    )
    assert (found.total - found.parts["runtime"]) / 1e9 == pytest.approx(measured, rel=0.15)


def test_trainable_parameters_are_exact(tiny: Path) -> None:
    rows = Rows(10, 10, 10, 30)
    for params in (
        {},
        {"r": 4},
        {"target_modules": ["q_proj", "down_proj"]},
        {"rank_pattern": {"k_proj": 2}},
    ):
        recipe = with_auto(resolve("dpo", False, params), facts_of(tiny, rows.count))
        model = add_adapter(load_base(str(tiny), recipe, choose(recipe)), recipe, None)
        assert plan(tiny, recipe, rows).trainable_parameters == trainable_parameters(model)


def test_a_4_bit_run_on_the_cpu_counts_the_file_that_it_reads(tiny: Path) -> None:
    rows = Rows(10, 10, 10, 30)
    file = (tiny / "model.safetensors").stat().st_size
    assert plan(tiny, resolve("dpo", True, {}), rows).parts["mapped file"] == file
    assert "mapped file" not in plan(tiny, resolve("dpo", False, {}), rows).parts
    assert "mapped file" not in plan(tiny, resolve("dpo", True, {}), rows, "cuda").parts


@pytest.mark.parametrize(
    ("params", "qlora", "knob"),
    [
        ({}, False, "qlora"),
        ({"per_device_train_batch_size": 16, "max_length": 4096}, True, "per_device_train_batch_size"),
        (
            {"per_device_train_batch_size": 1, "max_length": 8192, "gradient_checkpointing": False},
            True,
            "checkpointing",
        ),
        ({"per_device_train_batch_size": 1, "max_length": 32768}, True, "max_length"),
    ],
)
def test_run_that_cannot_fit_is_rejected_and_names_the_parameter(
    params: dict[str, Any], qlora: bool, knob: str, tmp_path: Path
) -> None:
    recipe = resolve("dpo", qlora, params)
    length = recipe.max_length
    found = plan(
        model_directory(tmp_path, "8b"),
        recipe,
        Rows(100, length / 2, length / 2, length),
        "cuda",
        available=8e9,
    )
    assert not found.fits
    assert "DOES NOT FIT" in found.explain()
    with pytest.raises(PlanError) as refused:
        require_fit(found)
    assert knob in refused.value.hint
    assert "engines.NAME.gpu_memory" in refused.value.hint


def test_as_many_layers_are_planned_to_be_recomputed_as_do_not_fit(tmp_path: Path) -> None:
    directory, rows = model_directory(tmp_path, "8b"), Rows(80, 256, 256, 512)
    recipe = resolve("dpo", True, {"per_device_train_batch_size": 8, "optim": "adamw_8bit"})
    totals, seconds = [], []
    for available, recomputed in ((80e9, 0), (40e9, 6), (30e9, 15), (12e9, 31), (10e9, 32)):
        found = plan(directory, recipe, rows, "cuda", available)
        notes = [note for note in found.notes if "layers are recomputed" in note]
        assert notes == ([f"activations of {recomputed} of 32 layers are recomputed"] if recomputed else [])
        assert found.fits == (available > 11e9)
        totals.append(found.total - found.parts.get("probe", 0.0))
        seconds.append(found.seconds)
    assert totals[0] > totals[1] > totals[2] > totals[3] == pytest.approx(totals[4], rel=0.01)
    assert seconds == sorted(seconds)


def test_a_qlora_plan_counts_the_probe_where_it_will_be_computed(tmp_path: Path) -> None:
    directory, rows = model_directory(tmp_path, "8b"), Rows(80, 64, 64, 128)
    recipe = resolve("dpo", True, {"per_device_train_batch_size": 1})
    roomy, small = (plan(directory, recipe, rows, "cuda", available) for available in (40e9, 12e9))
    # 8.03 billion numbers of two bytes, the output layer in float32 and the text's logits
    assert roomy.total / 1e9 == pytest.approx(21.0, abs=0.4)
    assert small.total < 12e9
    assert small.fits
    assert any("the 4-bit base" in note for note in small.notes)
    assert not any("the 4-bit base" in note for note in roomy.notes)


def test_a_run_on_the_cpu_has_no_engines_share_to_lower(tmp_path: Path) -> None:
    found = plan(model_directory(tmp_path, "8b"), resolve("dpo"), Rows(8, 64, 64, 128), "cpu", 1e9)
    assert "gpu_memory" not in found.advice


def test_every_recipe_is_planned(tmp_path: Path) -> None:
    for name in names():
        recipe = resolve(load(name)[1]["method"], recipe=name)
        found = plan(
            model_directory(tmp_path, "8b"), recipe, Rows(1000, 100, 200, 600), "cuda", available=80e9
        )
        assert found.steps > 0
        assert found.seconds > 0
        assert found.to_dict()["total"] == pytest.approx(sum(found.parts.values()))
        require_fit(found)


def test_the_65b_recipe_fits_48_gb_and_not_32(tmp_path: Path) -> None:
    recipe = resolve("dpo", recipe="65b-on-48gb")
    directory, rows = model_directory(tmp_path, "65b"), Rows(100, 1024, 1024, 2048)
    assert plan(directory, recipe, rows, "cuda", available=48e9).fits
    assert not plan(directory, recipe, rows, "cuda", available=32e9).fits


def test_without_a_configuration_there_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="plan"):
        plan(tmp_path, resolve("dpo"), Rows(1, 1, 1, 2))


def test_rows_are_counted_with_the_models_own_tokenizer(tiny: Path, tmp_path: Path) -> None:
    row = {"pair_id": "p", "prompt": [{"role": "user", "content": "the ship turns"}], "weight": 1.0}
    rows = [{**row, "chosen": "slowly", "rejected": "under the sails"}] * 3
    found = measure_rows(write_rows(tmp_path / "rows.parquet", rows), tiny, "dpo")
    assert found == Rows(3, 3 + 8, (1 + 8 + 3 + 8) / 2, 3 + 8 + 3 + 8)
    with pytest.raises(DataError, match="no rows"):
        measure_rows(write_rows(tmp_path / "empty.parquet", []), tiny, "dpo")
    with pytest.raises(DataError, match="cannot be read"):
        measure_rows(tmp_path / "none.parquet", tiny, "dpo")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        measure_rows(tmp_path / "rows.parquet", tmp_path, "dpo")


@pytest.mark.parametrize(
    ("shape", "method", "qlora", "gigabytes", "seconds"),
    [
        ("135m", "dpo", False, 4.69, 1.9),
        ("1b", "dpo", False, 11.98, 1.5),
        ("7b", "dpo", True, 33.62, 5.3),
        ("7b", "dpo", False, 44.37, 5.6),
        ("1b", "sft", False, 9.39, 1.8),
        ("1b", "dpo", True, 10.44, 1.9),
    ],
)
def test_short_runs_on_a_gpu_are_planned_within_15_percent_and_twice_the_time(
    shape: str, method: str, qlora: bool, gigabytes: float, seconds: float, tmp_path: Path
) -> None:
    """Measured with `bench/training/plan.py --device cuda` on one H100: three steps of 8 rows of 512 tokens at the most."""
    recipe = resolve(
        method,
        qlora,
        {
            "max_length": 512,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "max_steps": 3,
        },
    )
    found = plan(model_directory(tmp_path, shape), recipe, Rows(24, 205, 205, 410), "cuda", 79e9)
    assert found.total / 1e9 == pytest.approx(gigabytes, rel=0.15)
    assert seconds / 2 < found.seconds < seconds * 2
