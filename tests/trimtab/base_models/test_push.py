"""An exported folder goes to a hub in one commit, private, and over nothing unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from huggingface_hub import constants

from tests.support.hub import Hub
from trimtab.cli.releases import export
from trimtab.errors import ExportRefused
from trimtab.exports.push import Target, look_up, push

NAME = "acme/assistant-3"


@pytest.fixture
def hub_(hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, for a caller that may write."""
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.tokens, hub.root = {"hf_writer"}, tmp_path / "hub"
    return hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "more").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# assistant@3\n")
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "more" / "LICENSE").write_text("As you like.")
    return folder


def refused(name: str = NAME, public: bool = False, overwrite: bool = False) -> str:
    with pytest.raises(ExportRefused) as caught:
        look_up(name, public, overwrite)
    assert str(caught.value).startswith("--push: ")
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".gitattributes"
    }


@pytest.mark.parametrize("public", [False, True])
def test_a_folder_is_one_commit_of_a_new_repository(hub_: Hub, folder: Path, public: bool) -> None:
    target = look_up(NAME, public, False)
    assert target == Target(NAME, public)
    url = push(folder, target, "assistant@3")
    made = hub_.repositories[NAME]
    assert contents(made.directory) == contents(folder)
    assert (made.private, made.log) == (not public, ["assistant@3"])
    assert url == f"{hub_.url}/{NAME}/commit/{made.commit}"


def test_files_that_are_there_are_replaced_only_where_that_is_asked(hub_: Hub, folder: Path) -> None:
    push(folder, look_up(NAME, False, False), "assistant@3")
    found = refused()
    assert f"{NAME} is there, and not empty: it has 3 files, such as README.md" in found
    assert "--overwrite, which replaces what it has in one commit" in found
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "README.md").write_text("# assistant@4\n")
    push(folder, look_up(NAME, False, True), "assistant@4")
    made = hub_.repositories[NAME]
    assert contents(made.directory) == contents(folder)
    assert made.log == ["assistant@3", "assistant@4"]


def test_an_empty_repository_is_filled_where_it_is_private_or_may_be_public(hub_: Hub, folder: Path) -> None:
    for name, private in (("acme/private", True), ("acme/public", False)):
        (hub_.root / name).mkdir(parents=True)
        hub_.add(name, hub_.root / name, private=private)
    push(folder, look_up("acme/private", False, False), "assistant@3")
    assert contents(hub_.repositories["acme/private"].directory) == contents(folder)
    assert "acme/public is there, and public; accepted: a private or a new" in refused("acme/public")
    assert look_up("acme/public", True, False).files == ()


def test_a_commit_that_came_between_is_not_overwritten(hub_: Hub, folder: Path) -> None:
    push(folder, look_up(NAME, False, False), "assistant@3")
    target = look_up(NAME, False, True)
    made = hub_.repositories[NAME]
    made.commit = made.branches["main"] = "0" * 40
    with pytest.raises(ExportRefused, match="has changed, or was made by others, meanwhile"):
        push(folder, target, "assistant@4")
    assert made.log == ["assistant@3"]
    with pytest.raises(ExportRefused, match="has changed, or was made by others, meanwhile"):
        push(folder, Target(NAME), "assistant@4")


def test_an_upload_that_fails_leaves_no_part_of_it(hub_: Hub, folder: Path) -> None:
    hub_.statuses = {"/commit/main": 400}
    with pytest.raises(ExportRefused, match=f"answers 400 for {NAME}; accepted: the same later"):
        push(folder, look_up(NAME, False, False), "assistant@3")
    assert contents(hub_.repositories[NAME].directory) == {}
    hub_.statuses = {}
    push(folder, look_up(NAME, False, False), "assistant@3")
    assert contents(hub_.repositories[NAME].directory) == contents(folder)


def test_the_command_says_where_the_files_are_that_were_not_pushed(
    hub_: Hub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = export._push(look_up(NAME, False, False), str(folder), "assistant@3", True)
    assert url.endswith(f"/{NAME}/commit/{hub_.repositories[NAME].commit}")
    with pytest.raises(typer.Exit) as ended:
        export._push(Target(NAME), str(folder), "assistant@3", True)
    assert ended.value.exit_code == 2
    assert f"The files are in {folder}" in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_pushed_is_refused_before_anything_is_computed(
    hub_: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'a b/c' is no name of a repository; accepted: organisation/name" in refused("a b/c")
    assert "assistant names no account" in refused("assistant")
    hub_.tokens = {"hf_other"}
    with pytest.raises(ExportRefused, match=r"HF_TOKEN may not write to acme/assistant-3 at .* \(401\)"):
        push(folder, look_up(NAME, False, False), "assistant@3")
    hub_.status = 500
    assert f"{hub_.url} answers 500 for {NAME}" in refused()
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token: HF_TOKEN is not set" in refused()
    assert not hub_.repositories.keys() - {"acme/tiny"}
