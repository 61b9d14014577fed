"""A release as files that PEFT and transformers load, checked through these files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.training.exports.export import STEPS, export
from align.training.exports.job import ExportError, ExportJob, compare
from align.training.probe import load_adapter, logprobs
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


def test_what_reads_back_differently_is_refused(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from align.training.exports import export as module

    monkeypatch.setattr(module, "_read", lambda job, base: base)  # as if PEFT did not read the adapter
    with pytest.raises(ExportError, match=r"differs from the release by .* accepted: 0\.001"):
        export(job, lambda done, doing: None)


def test_distances_by_hand() -> None:
    found = compare([0.0, 0.0], [1.0, -1.0], [0.5, -1.0])
    assert (found.mean_abs, found.max_abs, found.effect, found.effect_share) == (0.25, 0.5, 1.0, 0.75)
