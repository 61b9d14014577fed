"""`trimtab releases export`: whole or not at all, and refused in words before anything is computed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from align.prepare import MANIFEST
from store.rollout import adapters, releases
from store.rollout.adapters import AdapterRecord
from tests.support.hub import Hub, running
from tests.support.in_thread import platform_in_thread
from tests.support.models import make_lora, make_tiny_base
from trimtab.app import build_platform
from trimtab.cli import app
from trimtab.config.paths import DataPaths
from trimtab.config.serving_sections import DeploymentSettings, EngineSettings
from trimtab.config.settings import Settings
from trimtab.errors import ExportRefused
from trimtab.exports import export as exporting
from trimtab.exports import job
from trimtab.exports.job import Exported
from trimtab.exports.tools import CONVERTER, PACKAGES, TOOLS, install_command
from trimtab.platform import Platform

NAME = "a-0123456789abcdef"
RELEASE: dict[str, Any] = {"name": "assistant@2", "base": "tiny", "adapter": NAME, "run": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an adapter, beside its base."""
    home = tmp_path_factory.mktemp("home")
    base = make_tiny_base(home / "tiny")
    make_lora(home / "data" / "adapters" / NAME, base, seed=1)
    return home


@pytest.fixture
def chosen(made: Path) -> Settings:
    engines = {
        "main": EngineSettings(
            base="tiny", model=str(made / "tiny"), url="http://127.0.0.1:9", api_key="none"
        )
    }
    return Settings(
        data=made / "data", engines=engines, deployments={"assistant": DeploymentSettings(base="tiny")}
    )


@pytest.fixture
def served(made: Path, chosen: Settings, empty: Path) -> Iterator[None]:
    """A platform on a socket, with assistant@2."""
    shutil.copy(empty, chosen.data / empty.name)

    def build(url: str) -> Platform:
        platform = build_platform(chosen, url)
        adapters.record(platform.db, AdapterRecord(hash=NAME, base="tiny", path="nowhere"))
        releases.create(platform.db, "assistant", "tiny", adapter=NAME, system_prompt="Be brief.")
        return platform

    with platform_in_thread(build):
        yield


def refused(
    chosen: Settings,
    out: Path,
    form: str = "peft",
    dtype: str = "auto",
    quantize: str | None = None,
    **release: Any,
) -> str:
    asked = Exported({**RELEASE, **release}, {}, form, out, dtype, quantize=quantize)
    with pytest.raises(ExportRefused) as caught:
        exporting.export(asked, chosen, DataPaths(chosen.data), lambda done, total, doing: None)
    return str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that takes what this process pushes."""
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    with running() as hub:
        hub.tokens, hub.root = {"hf_writer"}, tmp_path / "hub"
        changes = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
        for name, value in changes.items():
            monkeypatch.setattr(constants, name, value)
        yield hub


def test_the_command_writes_a_folder_that_is_whole_and_pushes_it(
    served: None, made: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "trimtab.toml"
    engine = f'[engines.main]\nbase = "tiny"\nmodel = "{made / "tiny"}"\n'
    config.write_text(engine + '[deployments.assistant]\nbase = "tiny"\n')
    (tmp_path / "out").mkdir()
    arguments = ["assistant@2", "out", "--data", str(made / "data"), "--config", str(config)]
    result = CliRunner().invoke(app, ["releases", "export", *arguments, "--push", "acme/assistant-2"])
    assert result.exit_code == 0, result.output
    pushed = hub.repositories["acme/assistant-2"]
    assert f"Pushed as {hub.url}/acme/assistant-2/commit/{pushed.commit}" in " ".join(result.output.split())
    assert (pushed.private, pushed.log) == (True, ["assistant@2"])
    for file in (tmp_path / "out").iterdir():
        assert (pushed.directory / file.name).read_bytes() == file.read_bytes()
    said = " ".join(result.output.split())
    assert "they do 100.00% of what the adapter does" in said
    assert (tmp_path / "out" / "system_prompt.txt").read_text() == "Be brief."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "out", "trimtab.toml"]
    result = CliRunner().invoke(
        app, ["releases", "export", "assistant@2", "new", *arguments[2:], "--push", "acme/assistant-2"]
    )
    assert result.exit_code == 2
    assert "acme/assistant-2 is there, and not empty" in " ".join(result.output.split())
    assert not (tmp_path / "new").exists()
    result = CliRunner().invoke(app, ["releases", "export", *arguments])
    assert result.exit_code == 2
    assert "is not empty" in result.output
    result = CliRunner().invoke(app, ["releases", "export", *arguments, "--public"])
    assert result.exit_code == 2
    assert "name a repository with --push" in result.output
    result = CliRunner().invoke(app, ["releases", "export", "assistant@9", "other", *arguments[2:]])
    assert result.exit_code != 0
    assert "assistant@9" in result.output
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_exported_is_refused_by_name(
    chosen: Settings, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert "--to: there is no form 'onnx'; accepted: peft, hf, gguf" in refused(chosen, out, "onnx")
    assert "--dtype: there is no type 'int4'" in refused(chosen, out, "hf", "int4")
    assert "accepted: a type with hf" in refused(chosen, out, "peft", "float16")
    assert "--to: assistant@2 has no adapter: it is the base model tiny;" in refused(
        chosen, out, adapter=None
    )
    prompt_only = refused(chosen, out, adapter=None, system_prompt="Be brief.")
    assert "it is the base model tiny with a system prompt; accepted: hf, gguf" in prompt_only
    assert "not pruned" in refused(chosen, out, adapter="a-gone")
    assert "accepted: a base that is on this machine" in refused(chosen, out, base="elsewhere")
    assert "is a mount point" in refused(chosen, Path("/proc"))
    file = tmp_path / "file"
    file.write_text("mine")
    assert "DIR: " in refused(chosen, file)
    quantised = made / "models" / "quantised"
    quantised.mkdir(parents=True)
    (quantised / "config.json").write_text('{"quantization_config": {"quant_method": "fp8"}}')
    small = chosen.engines["main"].model_copy(update={"model": str(quantised)})
    fp8 = chosen.model_copy(update={"engines": {"main": small}})
    assert "is quantised, which can't be merged; accepted: peft" in refused(fp8, out, "hf")
    disk = namedtuple("disk", "free")
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda path: disk(1000))
    assert "0.0 GB are needed; accepted: a folder on a disk with room" in refused(
        chosen, out, "hf", "bfloat16"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_gguf_is_refused_by_name_before_anything_is_written(
    chosen: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tools = tmp_path / "out", tmp_path / "tools"
    monkeypatch.setattr(exporting, "TOOLS", tools)
    missing = refused(chosen, out, "gguf")
    assert (
        f"llama.cpp's converter is not in {tools}; install it there: {sys.executable} -m pip install"
        in missing
    )
    assert "accepted: peft, hf, or gguf after that" in missing
    tools.mkdir()
    (tools / CONVERTER).touch()
    assert "there is no type 'q4_k_m'; accepted: f32, f16, bf16, q8_0" in refused(
        chosen, out, "gguf", quantize="q4_k_m"
    )
    assert "--quantize: hf files are not quantised; accepted: a type with gguf" in refused(
        chosen, out, "hf", quantize="q8_0"
    )
    assert "--dtype: --quantize is the type of GGUF; accepted: a type with hf" in refused(
        chosen, out, "gguf", "float16"
    )
    disk = namedtuple("disk", "free")
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda path: disk(1000))
    assert "GB are needed; accepted: a folder on a disk with room" in refused(chosen, out, "gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tools"]


def test_the_command_that_installs_the_converter_names_what_the_tests_use() -> None:
    pinned = (Path(__file__).parents[2] / "requirements" / "gguf.txt").read_text().splitlines()
    assert [line for line in pinned if not line.startswith("#")] == list(PACKAGES)
    assert install_command().endswith(f"--target {TOOLS} {' '.join(PACKAGES)}")


def test_an_interruption_ends_what_the_child_has_started() -> None:
    start = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(999)'])"
    )
    tell = 'print(\'{"done": %d, "total": 1, "doing": ""}\' % p.pid, flush=True); p.wait()'
    started: list[int] = []

    def interrupt(done: int, total: int, doing: str) -> None:
        started.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporting._run([sys.executable, "-c", f"{start}; {tell}"], interrupt)
    until_ended(started[0])


def until_ended(pid: int) -> None:
    """Wait until a process is gone, or dead and left to be collected."""
    while True:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if status.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)


def test_an_export_through_a_link_fills_the_folder_that_it_leads_to(
    chosen: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr(exporting, "_run", lambda argv, say: write_as(argv[-1]))
    exporting.export(
        Exported(RELEASE, {}, "peft", tmp_path / "link"), chosen, DataPaths(chosen.data), lambda *step: None
    )
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "README.md").read_text() == "assistant@2"


def write_as(job: str) -> dict[str, Any]:
    """Write what an export would, of its job alone."""
    fields = json.loads(Path(job).read_text())
    Path(fields["out"]).mkdir()
    (Path(fields["out"]) / "README.md").write_text(fields["name"])
    return {}


def test_the_version_of_the_base_is_its_commit_manifest_or_revision(chosen: Settings, tmp_path: Path) -> None:
    commit = tmp_path / "snapshots" / "0123abc"
    commit.mkdir(parents=True)
    assert job._origin(chosen, commit, "tiny") == "commit `0123abc`"
    assert job._origin(chosen, tmp_path, "tiny") is None
    main = chosen.engines["main"].model_copy(update={"revision": "v2"})
    pinned = chosen.model_copy(update={"engines": {"main": main}})
    assert job._origin(pinned, tmp_path, "tiny") == "revision `v2`"
    (tmp_path / MANIFEST).write_text('{"source": "tiny.gguf", "source_sha256": "12ef"}')
    assert job._origin(pinned, tmp_path, "tiny") == "made of `tiny.gguf`, SHA-256 `12ef`"


def test_a_fault_or_an_interruption_leaves_nothing(
    chosen: Settings, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = made / "data" / "adapters" / "a-broken"
    shutil.copytree(made / "data" / "adapters" / NAME, broken)
    (broken / "adapter_model.safetensors").write_bytes(b"no weights")
    assert "nothing was exported: " in refused(chosen, tmp_path / "out", adapter="a-broken")

    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    with pytest.raises(ExportRefused, match="nothing was exported: it ended with status -9"):
        exporting._run(killed, lambda *step: None)

    def interrupt(done: int, total: int, doing: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporting.export(
            Exported(RELEASE, {}, "hf", tmp_path / "out"), chosen, DataPaths(chosen.data), interrupt
        )
    assert not list(tmp_path.iterdir())
