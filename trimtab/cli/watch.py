"""What `--watch` shows of a run: its state, its steps and the newest figures, at any width.

On a terminal these are a line with a bar and the figures below it, drawn anew in place; elsewhere each state is a line,
and the last step comes at the end. Knows the events of `GET /api/runs/{id}/events`, and no platform.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from common.durations import duration

FIGURES = {
    "loss": "loss",
    "rewards/chosen": "chosen",
    "rewards/rejected": "rejected",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
}
"""A step's figures by their name in its event, and what they are called here."""


class RunScreen:
    """Shows events on `console` as they are taken; a context manager, since a terminal is put back in order at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[steps]}"), console=console
        )
        self._task = self._bar.add_task("waiting", total=None, steps="")
        self._step, self._steps = 0, 0
        self._said = ""
        self._live = Live(console=console, get_renderable=self.draw) if console.is_interactive else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def take(self, event: dict[str, Any]) -> None:
        """Show one event."""
        match event["event"]:
            case "state":
                if self._live is None:
                    self._print(event["to"])
                self._said = ""
                # a bar that moves by itself: what the run does now is not counted in steps
                self._bar.update(self._task, description=str(event["to"]), total=None)
            case "activity":
                self._said = doing(event)
            case "metrics":
                self._step, self._steps = event["step"], event.get("total_steps") or 0
                self._said = figures(event)
                self._bar.update(self._task, steps=self._steps_text())
                self._fill()
            case "end":
                self._fill()

    def draw(self) -> Group:
        """Return what a terminal shows now."""
        return Group(self._bar, *([Text(self._said)] if self._said else []))

    def _print(self, state: str) -> None:
        if self._step and self._said:
            self._console.print(f"{self._steps_text()} {self._said}", highlight=False, soft_wrap=True)
        self._console.print(state, highlight=False)

    def _steps_text(self) -> str:
        return f"{self._step}/{self._steps or '?'}"

    def _fill(self) -> None:
        self._bar.update(self._task, completed=self._step, total=max(self._steps, self._step, 1))


def doing(activity: dict[str, Any]) -> str:
    """Say what the worker does when it is not taking the run's own steps."""
    said = " ".join(str(activity[name]) for name in ("stage", "phase") if name in activity)
    return f"{said} {activity.get('done', 0)}/{activity['of']}" if activity.get("of") else said


def figures(event: dict[str, Any]) -> str:
    """Say a step's figures; what was not measured is left out."""
    parts = [f"{word} {event[key]:.4g}" for key, word in FIGURES.items() if event.get(key) is not None]
    if event.get("tokens_per_second"):
        parts.append(f"{event['tokens_per_second']:.0f} tokens/s")
    if event.get("memory_bytes"):
        parts.append(f"{event['memory_bytes'] / 1e9:.1f} GB")
    if event.get("seconds_left") is not None:
        parts.append(f"{duration(event['seconds_left'])} left")
    return ", ".join(parts)
