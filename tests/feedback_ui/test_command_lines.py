"""Each button of Ops shows a command that exists, with options that exist."""

from __future__ import annotations

import shlex
from pathlib import Path

import gradio as gr
import pytest
import typer
from typer.testing import CliRunner

from feedback_ui import app
from feedback_ui.ops.command_lines import COMMANDS
from trimtab.cli import app as command_line


def test_every_button_of_ops_shows_its_command() -> None:
    blocks = app.build("http://127.0.0.1:9").blocks.values()
    ids = {
        block.elem_id
        for block in blocks
        if isinstance(block, gr.Button | gr.DownloadButton)
        and not (block.elem_id or "chat-").startswith(("chat-", "rank-", "vote-"))  # Gradio's own have none
    }
    assert ids == set(COMMANDS)
    shown = " ".join(str(block.value) for block in blocks if isinstance(block, gr.HTML))
    for line in COMMANDS.values():
        assert line in shown


@pytest.mark.parametrize("line", sorted(set(COMMANDS.values())))
def test_commands_are_accepted_with_their_options(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    program, *words = shlex.split(line)
    assert program == "trimtab"
    command = typer.main.get_command(command_line)
    while groups := getattr(command, "commands", None):
        command = groups[words.pop(0)]
    with CliRunner().isolation(input="a password\na password\n"):  # what is asked for, such as a new user's
        command.make_context(line, words)
