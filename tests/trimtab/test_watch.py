"""What `--watch` shows, on terminals of several widths and in a file."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from trimtab.cli import app
from trimtab.cli import runs as commands
from trimtab.cli.watch import RunScreen

STEP = {
    "event": "metrics",
    "step": 3,
    "total_steps": 40,
    "loss": 0.66513,
    "rewards/chosen": 0.006464,
    "rewards/rejected": -0.05035,
    "rewards/margins": 0.05682,
    "rewards/accuracies": 1.0,
    "tokens_per_second": 121.3,
    "memory_bytes": 1.6e9,
    "seconds_left": 4000.0,
}
FIGURES = "loss 0.6651, chosen 0.006464, rejected -0.05035, margin 0.05682, accuracy 1, 121 tokens/s, 1.6 GB, 67 min left"


def state(name: str) -> dict[str, Any]:
    return {"event": "state", "to": name}


EVENTS = [state("queued"), state("training"), {"event": "activity", "phase": "loading"}, STEP]


def shown(screen: RunScreen, console: Console) -> list[str]:
    return ["".join(part.text for part in line) for line in console.render_lines(screen.draw(), pad=False)]


@pytest.mark.parametrize("width", [32, 60, 80, 160])
def test_state_steps_and_figures_are_whole_at_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    screen = RunScreen(console)
    for event in EVENTS:
        screen.take(event)
    first, *rest = shown(screen, console)
    assert max(map(len, [first, *rest])) <= width
    assert re.fullmatch(r"training [━╸╺ ]{10,} 3/40", first.strip())
    assert " ".join(" ".join(rest).split()) == FIGURES


def test_phase_without_steps_moves_the_bar_and_keeps_the_count() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    screen = RunScreen(console)
    for event in [
        *EVENTS[:2],
        {"event": "activity", "stage": "sft", "phase": "reference", "done": 2, "of": 9},
    ]:
        screen.take(event)
    first, said = shown(screen, console)
    assert "/" not in first
    assert said == "sft reference 2/9"
    for event in (STEP, state("publishing")):
        screen.take(event)
    (only,) = shown(screen, console)
    assert only.split()[0::2] == ["publishing", "3/40"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_terminal_is_left_with_the_last_state_and_its_cursor(broken: bool) -> None:
    file = io.StringIO()
    with suppress(ConnectionError), RunScreen(Console(file=file, force_terminal=True, width=60)) as screen:
        for event in (*EVENTS, state("cancelled"), {"event": "end", "state": "cancelled"}):
            screen.take(event)
        if broken:
            raise ConnectionError
    written = file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    last = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", written).rstrip("\n").splitlines()[-1]
    assert re.fullmatch(r"cancelled ━+[╸╺]━+ 3/40", last)


def test_in_a_file_each_state_is_a_line_and_the_last_step_another() -> None:
    file = io.StringIO()
    with RunScreen(Console(file=file, width=60)) as screen:
        for event in (
            *EVENTS,
            state("publishing"),
            state("published"),
            {"event": "end", "state": "published"},
        ):
            screen.take(event)
    assert file.getvalue().splitlines() == [
        "queued",
        "training",
        f"3/40 {FIGURES}",
        "publishing",
        "published",
    ]


def test_ctrl_c_prints_that_the_run_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise typer.Exit(130)

    monkeypatch.setattr(commands, "ask", interrupted)
    result = CliRunner().invoke(app, ["runs", "watch", "run-1"])
    assert result.exit_code == 130
    assert "run-1 goes on" in result.output
