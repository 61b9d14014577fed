"""The embedded model: whole or absent, prepared once."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from align import prepare as module
from align.prepare import PrepareError, gguf_file, is_prepared, prepare


def test_prepared_model_is_whole(smollm2: Path) -> None:
    assert is_prepared(smollm2)
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["model_type"], config["vocab_size"], config["dtype"]) == ("llama", 49152, "float32")
    assert (smollm2 / "chat_template.jinja").read_text().count("<|im_start|>") >= 2
    tokenizer = json.loads((smollm2 / "tokenizer_config.json").read_text())
    assert {name: tokenizer[name] for name in module.SPECIAL_TOKENS} == module.SPECIAL_TOKENS
    manifest = json.loads((smollm2 / "trimtab-prepared.json").read_text())
    assert manifest["licence"] == "apache-2.0"
    assert len(manifest["source_sha256"]) == 64
    assert prepare(smollm2) == smollm2  # the second time it returns at once


def test_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(PrepareError, match="not a prepared model"):
        prepare(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_here")
    with pytest.raises(PrepareError, match="make setup"):
        prepare(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_failed_conversion_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(source: Path, out: Path, say: object) -> None:
        out.mkdir()
        (out / "model.safetensors").write_bytes(b"half")
        raise PrepareError("unreadable")

    monkeypatch.setattr(module, "_convert", broken)
    with pytest.raises(PrepareError, match="unreadable"):
        prepare(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == [".model.lock"]


def test_several_callers_convert_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def convert(source: Path, out: Path, say: object) -> None:
        calls.append(source)
        out.mkdir()
        (out / "model.safetensors").write_bytes(b"w")
        (out / module.MANIFEST).write_text("{}")

    monkeypatch.setattr(module, "_convert", convert)
    threads = [threading.Thread(target=prepare, args=(tmp_path / "model",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [gguf_file()]
    assert is_prepared(tmp_path / "model")
