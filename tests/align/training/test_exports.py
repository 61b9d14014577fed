"""A release as files that PEFT and transformers load, checked through these files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.training.exports import merged_weights
from align.training.exports.card import write_card
from align.training.exports.export import STEPS, export
from align.training.exports.job import ExportError, ExportJob, compare
from align.training.exports.merged_weights import MergeError
from align.training.merge import merge
from align.training.probe import load_adapter, logprobs
from common.sequences import mean_distance
from tests.support.models import make_lora, make_tiny_base

TOKENS = list(range(20, 60))
CARD = "# Trained\n\n## Held-out measures\n\n| measure | before | after |\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")
    (path / "LICENSE").write_text("Do as you like.\n")
    (path / "README.md").write_text("---\nlicense: mit\n---\n")
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_lora(tmp_path_factory.mktemp("one") / "a-0123456789abcdef", base, seed=1, rank=4)


@pytest.fixture
def job(base: Path, adapter: Path, tmp_path: Path) -> ExportJob:
    return ExportJob(
        form="peft",
        model=str(base),
        adapter=str(adapter),
        out=str(tmp_path / "out"),
        name="assistant@3",
        base="organisation/tiny",
        system_prompt="Be brief.",
        sampling={"temperature": 0.3, "max_tokens": 40, "top_p": 0.9},
        learned={"pairs": 7, "likes": 0},
        run_card=CARD,
        origin="commit `0123abc`",
        examples=2,
    )


def release(base: Path, adapter: Path) -> list[float]:
    return logprobs(load_adapter(AutoModelForCausalLM.from_pretrained(base).eval(), adapter), TOKENS)


def test_a_peft_folder_is_whole_and_names_its_base_as_others_do(
    job: ExportJob, base: Path, adapter: Path
) -> None:
    steps: list[int] = []
    found = export(job, lambda done, doing: steps.append(done))
    assert steps == list(range(STEPS))
    assert (found["mean_abs"], found["effect_share"]) == (0, pytest.approx(1))
    out = job.directory
    assert sorted(path.name for path in out.iterdir()) == [
        "LICENSE", "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
        "system_prompt.txt",
    ]  # fmt: skip
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "organisation/tiny"
    card = (out / "README.md").read_text()
    for text in (
        "license: mit",
        'base_model: "organisation/tiny"',
        "learned from: 7 pairs",
        "## Held-out",
        "0.3",
        "`organisation/tiny`, commit `0123abc`",
        "2 examples in it",
        "chat_template.jinja",
        "\nBe brief.\n",
        "| mean distance | 0 |",
    ):
        assert text in card
    assert "likes" not in card
    assert str(base) not in card + json.dumps(config)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(out)).eval()
    assert logprobs(model, TOKENS) == pytest.approx(release(base, adapter), abs=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("auto", 1e-4), ("bfloat16", 0.5)])
def test_merged_weights_load_in_transformers(
    dtype: str, tolerance: float, job: ExportJob, base: Path, adapter: Path
) -> None:
    found = export(replace(job, form="hf", dtype=dtype), lambda done, doing: None)
    model = AutoModelForCausalLM.from_pretrained(job.out, dtype="auto").eval()
    assert model.dtype == {"auto": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    assert found["dtype"] == str(model.dtype).removeprefix("torch.")
    own = release(base, adapter)
    distances = [abs(a - b) for a, b in zip(logprobs(model, TOKENS), own, strict=True)]
    assert sum(distances) / len(distances) < tolerance
    assert found["mean_abs"] <= max(tolerance / 10, 2 * found["base_mean_abs"])
    assert (found["base_mean_abs"] > 0) == (dtype == "bfloat16")
    assert found["effect_share"] == pytest.approx(1, abs=0.02)
    defaults = model.generation_config
    assert (defaults.temperature, defaults.top_p, defaults.max_new_tokens, defaults.do_sample) == (
        0.3,
        0.9,
        40,
        True,
    )
    assert AutoTokenizer.from_pretrained(job.out).chat_template


def test_greedy_sampling_and_a_release_without_an_adapter(job: ExportJob, base: Path) -> None:
    plain = replace(
        job, form="hf", adapter=None, sampling={"temperature": 0, "top_p": 0.5}, system_prompt=None
    )
    found = export(plain, lambda done, doing: None)
    assert (found["mean_abs"], found["effect"], found["effect_share"]) == (0, None, None)
    model = AutoModelForCausalLM.from_pretrained(job.out).eval()
    assert model.generation_config.do_sample is False
    assert not (job.directory / "system_prompt.txt").exists()
    assert "adapter: none" in (job.directory / "README.md").read_text()


def scaled(name: str, factor: float) -> Callable[[Any], Any]:
    """Return a merge that is wrong: it takes the part of layers with `name` in theirs times `factor`."""
    right = merged_weights._merged

    def wrong(tuned: Any) -> Any:
        for path, module in tuned.named_modules():
            if isinstance(module, LoraLayer) and name in path:
                module.scaling.update({key: scale * factor for key, scale in module.scaling.items()})
        return right(tuned)

    return wrong


@pytest.mark.parametrize(("part", "factor"), [("layers.", 0.9), ("layers.", 1.1), ("layers.1.", 0.0)])
def test_a_wrong_merge_is_refused_where_rounding_would_hide_it(
    part: str, factor: float, job: ExportJob, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = make_lora(tmp_path / "weak", base, seed=1, rank=4, scale=0.1)
    rounded = replace(job, form="hf", dtype="bfloat16", adapter=str(weak))
    right = merged_weights.merge_adapter(str(base), weak, "bfloat16", TOKENS)
    monkeypatch.setattr(merged_weights, "_merged", scaled(part, factor))
    with monkeypatch.context() as unchecked:
        unchecked.setattr(merged_weights, "_require_same_effect", lambda *series: None)
        wrong = merged_weights.merge_adapter(str(base), weak, "bfloat16", TOKENS)
    distance = mean_distance(wrong.release, logprobs(wrong.model, TOKENS))
    assert distance < right.accepted(torch.bfloat16)  # what is rounded does not show it
    with pytest.raises(MergeError, match="merged weights differ from base and adapter by"):
        export(rounded, lambda done, doing: None)
    assert not job.directory.exists()
    with pytest.raises(MergeError, match="merged weights differ from base and adapter by"):
        merge(str(base), weak, tmp_path / "merged")


def test_a_value_that_was_not_written_is_refused(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from align.training.exports import export as module

    right = module.load_model

    def one_off(directory: str, dtype: str = "auto") -> Any:
        model = right(directory, dtype)
        model.model.layers[1].mlp.up_proj.weight.data[3, 5] += 0.01
        return model

    monkeypatch.setattr(module, "load_model", one_off)
    with pytest.raises(MergeError, match=r"layers\.1\.mlp\.up_proj\.weight was not written as it was merged"):
        export(replace(job, form="hf", dtype="bfloat16"), lambda done, doing: None)


def test_each_tensor_keeps_the_type_that_the_base_has_it_in(
    job: ExportJob, base: Path, adapter: Path, tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(narrow)
    AutoTokenizer.from_pretrained(base).save_pretrained(narrow)
    found = export(replace(job, form="hf", model=str(narrow)), lambda done, doing: None)
    assert found["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(job.out, dtype="auto").eval()
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    exact = AutoModelForCausalLM.from_pretrained(narrow, dtype=torch.float32).eval()
    meant = load_adapter(exact, adapter).merge_and_unload()
    for name, tensor in meant.state_dict().items():
        assert torch.equal(tensor.to(torch.bfloat16), model.state_dict()[name]), name


def test_a_prompt_with_backticks_stays_in_its_block(job: ExportJob) -> None:
    prompt = "Answer so:\n```\ncode\n```\nUser: ````?"
    export(replace(job, system_prompt=prompt), lambda done, doing: None)
    assert f"`````text\n{prompt}\n`````\n" in (job.directory / "README.md").read_text()
    assert (job.directory / "system_prompt.txt").read_text() == prompt


def test_what_reads_back_differently_is_refused(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from align.training.exports import export as module

    right, read = module.load_adapter, []

    def second_is_nothing(model: Any, adapter: Path) -> Any:
        read.append(adapter)
        return right(model, adapter) if len(read) == 1 else model  # as if PEFT did not read the copy

    monkeypatch.setattr(module, "load_adapter", second_is_nothing)
    with pytest.raises(ExportError, match=r"differs from the release by .* accepted: 0\.0001"):
        export(job, lambda done, doing: None)


def test_distances_by_hand() -> None:
    found = compare([0.0, 0.0], [1.0, -1.0], [0.5, -1.0])
    assert (found.mean_abs, found.max_abs, found.effect, found.effect_share) == (0.25, 0.5, 1.0, 0.75)
    hidden = compare([0.0, 0.0], [0.1, -0.1], [0.9, -1.0])
    assert (hidden.effect, hidden.effect_share) == (pytest.approx(0.1), None)


def test_a_card_gives_no_share_that_rounding_makes(job: ExportJob) -> None:
    job.directory.mkdir()
    write_card(job, "mit", "bfloat16", compare([0.0, 0.0], [0.1, -0.1], [0.9, -1.0]))
    card = (job.directory / "README.md").read_text()
    assert "| what the adapter adds in the release | 0.1 |" in card
    assert "| share of it that these files do | not measured: the distance is larger |" in card
