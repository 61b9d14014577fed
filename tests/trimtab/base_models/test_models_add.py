"""`trimtab models add` from a hub on loopback: what it writes, what it refuses, and what it leaves behind then."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file

from tests.support.gguf_file import write_gguf
from tests.support.hub import Hub
from tests.support.platform import wait_for
from tests.trimtab.base_models.conftest import Trimtab
from trimtab.base_models.hub import look_up, require_room
from trimtab.base_models.local import resolve
from trimtab.errors import ModelRefused

SETTINGS = "# kept\n[training]\nkeep_warm = false  # as it was\n"


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "hf").rglob("snapshots/*/*"))


@pytest.mark.slow
def test_a_hub_id_is_checked_downloaded_and_written_with_its_commit(
    trimtab: Trimtab, hub: Hub, tiny: Path
) -> None:
    Path("trimtab.toml").write_text(SETTINGS)
    commit = hub.repositories["acme/tiny"].commit
    said = trimtab("models", "add", "small", "acme/tiny", "--deployment", "helper")
    for part in (commit, "apache-2.0", "q_proj", "serving: ", "key-value cache", "DPO with LoRA", "QLoRA"):
        assert part in said
    text = Path("trimtab.toml").read_text()
    assert text.startswith(SETTINGS)
    settings = tomllib.loads(text)
    assert settings["engines"]["small"] == {"base": "small", "model": "acme/tiny", "revision": commit}
    assert settings["engines"]["main"]["base"] == "smollm2-135m-instruct"
    assert settings["deployments"] == {
        "assistant": {"base": "smollm2-135m-instruct"},
        "helper": {"base": "small"},
    }
    row = json.loads(trimtab("models", "list", "--json"))[1]
    assert (row["base"], row["revision"], row["weights"], row["state"]) == ("small", commit, "here", None)
    # what was downloaded is found by every later step, without the hub
    hub.status = 500
    directory = resolve("acme/tiny", commit)
    assert (directory / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()
    assert "already" in trimtab("models", "add", "small", "acme/tiny", status=1)
    trimtab("models", "remove", "small")
    assert "small" not in Path("trimtab.toml").read_text()


@pytest.mark.slow
def test_a_gguf_file_is_converted_and_served_with_the_template_that_is_given(
    trimtab: Trimtab, tiny: Path, tmp_path: Path
) -> None:
    file = write_gguf(tiny, tmp_path / "tiny.gguf")
    template = tiny / "chat_template.jinja"
    trimtab("models", "add", "g", str(file), "--chat-template", str(template))
    made = Path("data/models/g")
    before, after = (load_file(directory / "model.safetensors") for directory in (tiny, made))
    assert before.keys() == after.keys()
    assert all(np.array_equal(values, after[name][: len(values)]) for name, values in before.items())
    assert (made / "chat_template.jinja").read_text() == template.read_text()
    assert json.loads((made / "trimtab-source.json").read_text())["model"] == str(file)
    assert tomllib.loads(Path("trimtab.toml").read_text())["engines"]["g"] == {"base": "g"}
    assert json.loads(trimtab("models", "list", "--json"))[1]["weights"] == "here"


def edited(tiny: Path, directory: Path, **config: object) -> Path:
    """A copy of the tiny model whose config.json says something else."""
    shutil.copytree(tiny, directory)
    known = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(known | config))
    return directory


def test_what_vllm_does_not_serve_is_refused_before_its_weights_are_downloaded(
    trimtab: Trimtab, hub: Hub, tiny: Path, tmp_path: Path
) -> None:
    hub.add("acme/odd", edited(tiny, tmp_path / "odd", architectures=["OddForCausalLM"]))
    said = trimtab("models", "add", "odd", "acme/odd", status=1)
    assert "architecture: OddForCausalLM is not served" in said
    assert "model.safetensors" not in cached(tmp_path)
    assert not hub.asked("model.safetensors")
    assert not Path("trimtab.toml").exists()


def test_a_mixture_of_experts_is_refused_where_there_is_no_gpu(
    trimtab: Trimtab, hub: Hub, tiny: Path, tmp_path: Path
) -> None:
    hub.add("acme/moe", edited(tiny, tmp_path / "moe", num_local_experts=4))
    said = trimtab("models", "add", "moe", "acme/moe", status=1)
    assert "is a mixture of experts, which vLLM serves with LoRA on a GPU alone" in said
    assert not hub.asked("model.safetensors")


def test_a_model_without_a_chat_template_is_refused_by_name(
    trimtab: Trimtab, hub: Hub, tiny: Path, tmp_path: Path
) -> None:
    plain = shutil.copytree(tiny, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    hub.add("acme/plain", plain)
    said = trimtab("models", "add", "plain", "acme/plain", status=1)
    assert "chat_template: the model has none; accepted: a model with a chat template" in " ".join(
        said.split()
    )
    assert not Path("trimtab.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x", "acme/none"), "model: there is no acme/none at"),
        (("x", "acme/tiny", "--revision", "v9"), "revision: acme/tiny has no revision 'v9'"),
        (("x", "a/b/c"), "model: 'a/b/c' is neither a path here nor a hub id"),
        (("x", "acme/gated"), "model: acme/gated is gated"),
        (("x", "acme/pickled"), "model: acme/pickled has no safetensors weights"),
        (("x", "./nowhere"), "model: "),
        (("x", "./nowhere.gguf"), "nowhere.gguf can't be read (No such file"),
        (("x", "./plain.gguf"), "plain.gguf is no GGUF file"),
        (("x", "./plain.gguf", "--revision", "v1"), "--revision: ./plain.gguf is a path"),
        (
            ("x", "acme/tiny", "--chat-template", "none.jinja"),
            "--chat-template: none.jinja holds no template",
        ),
        (("x.y", "acme/tiny"), "NAME: 'x.y' can't name a base model"),
        (("main", "acme/tiny"), "NAME: "),
        (("assistant", "acme/tiny"), "NAME: trimtab.toml has a deployment 'assistant'"),
        (("x", "acme/tiny", "--deployment", "assistant"), "--deployment: "),
        (("x", "acme/tiny", "--deployment", "x"), "--deployment: "),
    ],
)
def test_bad_input_names_the_field_and_changes_nothing(
    trimtab: Trimtab, hub: Hub, tiny: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    hub.add("acme/gated", tiny, gated=True)
    Path("plain.gguf").write_text("text")
    pickled = shutil.copytree(tiny, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    hub.add("acme/pickled", pickled)
    text = trimtab("models", "add", *arguments, status=1)
    assert said in text
    assert "accepted: " in text
    assert not Path("trimtab.toml").exists()


def test_without_the_hub_a_model_that_is_not_here_is_refused(
    trimtab: Trimtab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "does not answer" in trimtab("models", "add", "x", "acme/tiny", status=1)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in trimtab("models", "add", "x", "acme/tiny", status=1)


def test_a_gated_model_is_read_with_the_token_of_the_environment(
    hub: Hub, trimtab: Trimtab, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = shutil.copytree(tiny, tmp_path / "gated")
    (plain / "chat_template.jinja").unlink()
    hub.add("acme/gated", plain, gated=True)
    hub.tokens.add("hf_mine")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    said = trimtab("models", "add", "x", "acme/gated", status=1)
    assert "chat_template" in said, "it was read, and refused for what it lacks"


def test_a_disk_without_room_is_named_before_the_download(
    cache: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look_up("acme/tiny", None)
    require_room(found)
    monkeypatch.setattr("trimtab.base_models.hub.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ModelRefused, match=r"0\.0 GB free .* set HF_HOME"):
        require_room(found)
    assert not hub.asked("model.safetensors")


def test_an_interrupted_download_continues(hub: Hub, cache: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    (big / "config.json").write_text("{}")
    (big / "model.safetensors").write_bytes(
        random.Random(0).randbytes(24 * 2**20)
    )  # the client writes 10 MiB at a time
    hub.add("acme/big", big)
    argv = [sys.executable, "-m", "trimtab.base_models.download", "acme/big"]
    hub.pause_after = 21 * 2**20
    first = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(path.stat().st_size >= 20 * 2**20 for path in cache.rglob("*.part")), 60)
    first.send_signal(signal.SIGINT)
    assert first.wait(20) != 0
    hub.pause_after = None
    assert resolve("acme/big") == Path("acme/big"), "not whole"
    second = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    directory = Path(second.stdout.strip())
    assert (directory / "model.safetensors").read_bytes() == (big / "model.safetensors").read_bytes()
    assert hub.asked("model.safetensors") == [None, f"bytes={20 * 2**20}-"]
    assert resolve("acme/big") == directory
