"""A release as a GGUF file, by llama.cpp's converter, read back by llama.cpp itself and by transformers."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from align.training.exports import gguf as exports
from align.training.exports.export import STEPS, export
from align.training.exports.gguf import OUTTYPES, _Read
from align.training.exports.job import ExportError, ExportJob
from tests.support.models import make_lora, make_tiny_base, save_whole

TOOLS = Path(sys.prefix) / "share" / "trimtab-gguf"


@pytest.fixture(scope="module")
def tools() -> Path:
    assert (TOOLS / "convert_hf_to_gguf.py").is_file(), "llama.cpp's converter: scripts/setup.sh --test"
    return TOOLS


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """A random Llama with a tokenizer that the converter knows."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    return save_whole(tmp_path_factory.mktemp("bases") / "small", LlamaForCausalLM(config).float(), tokenizer)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(tmp_path_factory.mktemp("one") / "a-0123456789abcdef", base, seed=1, rank=4)


def job_in(folder: Path, base: Path, adapter: Path, tools: Path) -> ExportJob:
    return ExportJob(
        form="gguf",
        model=str(base),
        adapter=str(adapter),
        out=str(folder / "out"),
        name="assistant@3",
        base="organisation/small",
        system_prompt="Be brief.",
        sampling={"temperature": 0.3, "max_tokens": 40},
        origin="commit `0123abc`",
        tools=str(tools),
    )


@pytest.fixture
def job(base: Path, adapter: Path, tools: Path, tmp_path: Path) -> ExportJob:
    return job_in(tmp_path, base, adapter, tools)


@pytest.fixture(scope="module")
def exported(
    base: Path, adapter: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A release that was exported whole: its folder, and what was found."""
    job = job_in(tmp_path_factory.mktemp("to"), base, adapter, tools)
    steps: list[int] = []
    found = export(job, lambda done, doing: steps.append(done))
    assert steps == list(range(STEPS))
    return job.directory, found


def test_llama_cpp_reads_a_gguf_file_as_the_release(exported: tuple[Path, dict[str, Any]]) -> None:
    out, found = exported
    assert sorted(path.name for path in out.iterdir()) == [
        "Modelfile", "README.md", "assistant-3-Q8_0.gguf", "chat_template.jinja", "system_prompt.txt",
    ]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert found["dtype"] == "q8_0"
    assert found["read_by"].startswith("llama.cpp (xllamacpp ")
    assert found["effect_share"] == pytest.approx(1, abs=0.1)
    assert found["rounding_mean_abs"] > 0
    assert 0 < found["mean_abs"] <= max(exports.TOLERANCE["q8_0"], 3 * found["rounding_mean_abs"])
    card = (out / "README.md").read_text()
    for text in (
        "library_name: llama.cpp",
        "llama-server --jinja -m assistant-3-Q8_0.gguf",
        "which makes the same tokens |",
        f"| mean distance | {found['mean_abs']:.3g} |",
        "the Modelfile applies it",
    ):
        assert text in card
    modelfile = (out / "Modelfile").read_text().splitlines()
    assert modelfile[1] == "FROM ./assistant-3-Q8_0.gguf"
    assert modelfile[2].startswith('TEMPLATE """{{ if not .System }}{{ "<|im_start|>system\\nYou are')
    assert modelfile[3] == 'SYSTEM """Be brief."""'
    assert modelfile[4] == "PARAMETER temperature 0.3"
    assert modelfile[-1] == "PARAMETER num_predict 40"


def test_transformers_checks_a_gguf_file_where_llama_cpp_is_missing(
    job: ExportJob, exported: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is that of the export above: converting takes the longest."""
    made = exported[0] / job.weights_file
    monkeypatch.setattr(exports, "_convert", lambda job, folder, file: shutil.copy(made, file))
    alone = replace(job, tools=str(tmp_path / "nothing"))
    found = export(alone, lambda done, doing: None)
    assert found["read_by"] == "transformers, dequantised to float32"
    assert found["mean_abs"] == pytest.approx(found["rounding_mean_abs"])
    assert found["mean_abs"] == pytest.approx(exported[1]["rounding_mean_abs"])
    other = replace(alone, out=str(tmp_path / "other"), adapter=None)
    with pytest.raises(ExportError, match=r"proj\.weight was not written as it was merged"):
        export(other, lambda done, doing: None)


def test_a_model_that_the_converter_does_not_know_is_refused(job: ExportJob, tmp_path: Path) -> None:
    unknown = make_tiny_base(tmp_path / "bytes")
    with pytest.raises(
        ExportError, match=r"converter does not write this model: .*pre-tokenizer was not rec"
    ):
        export(replace(job, model=str(unknown), adapter=None), lambda done, doing: None)


def written(values: torch.Tensor, outtype: str) -> torch.Tensor:
    """Return what a file of this type holds of values."""
    kind = GGMLQuantizationType[{"q8_0": "Q8_0"}.get(outtype, outtype.upper())]
    array: Any = dequantize(quantize(values.numpy().astype(np.float32), kind), kind)
    return torch.from_numpy(np.array(array, dtype=np.float32)).reshape(values.shape)


@pytest.mark.parametrize("outtype", OUTTYPES)
@pytest.mark.parametrize("scale", [1e-3, 0.02, 3.0])
def test_values_of_a_file_are_those_that_its_type_rounds_to(outtype: str, scale: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(64, 96) * scale
    found = written(values, outtype)
    assert exports._is_rounded(values, found, outtype)
    found[3, 5] += 0.05 * values.abs().max()
    assert not exports._is_rounded(values, found, outtype)
    assert not exports._is_rounded(values, found[:, :64], outtype)
    vector = torch.randn(64)
    assert exports._is_rounded(vector, vector, outtype)
    assert not exports._is_rounded(vector, vector.half().float(), outtype)


def test_a_file_that_is_read_differently_is_refused(job: ExportJob) -> None:
    base, release = [0.0] * 20, [1.0] * 20
    near = _Read([*[1.1] * 19, None], "llama.cpp (xllamacpp 1)")
    found = exports._compared(job, base, release, None, near)
    assert (found.tokens, found.read_by, found.rounding_mean_abs) == (19, "llama.cpp (xllamacpp 1)", None)
    assert found.mean_abs == pytest.approx(0.1)
    far = _Read([1.3] * 20, "llama.cpp (xllamacpp 1)")
    with pytest.raises(
        ExportError, match=r"read by llama.*differs from the release by 0\.3 .*accepted: 0\.15"
    ):
        exports._compared(job, base, release, None, far)
    rounded = _Read([1.2] * 20, "transformers")
    assert exports._compared(job, base, release, rounded, far).rounding_mean_abs == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("tokens", "given", "reason"),
    [([1], [0.5] * 20, "makes other tokens"), (None, [None] * 20, "answers with no log-probabilities")],
)
def test_other_tokens_and_missing_answers_of_llama_cpp_are_refused(
    tokens: list[int] | None,
    given: list[float | None],
    reason: str,
    job: ExportJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from align.training.model import load_tokenizer
    from align.training.probe import TEXT
    from align.training.texts.chat_template import render

    tokenizer = load_tokenizer(job.model)
    text = render(tokenizer, [{"role": "user", "content": TEXT}], True)
    own = tokenizer(text, add_special_tokens=False).input_ids

    def answer(job: ExportJob, argv: list[str]) -> None:
        value = {"tokens": tokens or own, "logprobs": given, "version": "xllamacpp 1"}
        Path(argv[-1]).write_text(json.dumps(value))

    monkeypatch.setattr(exports, "_run_with_tools", answer)
    with pytest.raises(ExportError, match=reason):
        exports._read_by_llama_cpp(job, Path("a.gguf"), own[:21], tokenizer)
