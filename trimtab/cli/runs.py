"""`trimtab train dpo|sft` and `trimtab runs …`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serve.client import PlatformClient
from trimtab.cli.common import AsJson, DataOption, ask, console, fail, show

train_app = typer.Typer(help="Ask for a training run.", no_args_is_help=True)
runs_app = typer.Typer(help="Training runs.", no_args_is_help=True)

Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", help="A parameter by TRL's or PEFT's name, `learning_rate=1e-4`; repeatable."
    ),
]
Deployment = Annotated[str, typer.Option(help="Deployment to train for.")]
Qlora = Annotated[bool, typer.Option("--qlora", help="Train over the 4-bit base (NF4).")]
Rollout = Annotated[str, typer.Option(help="How far it goes by itself: none, canary or promote.")]
Gate = Annotated[str, typer.Option(help="enforce or report.")]
Start = Annotated[str, typer.Option(help="Go on from the adapter of stable, or from the base.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it to its end.")]

ENDED_BADLY = {"failed", "cancelled", "rejected"}


@train_app.command("dpo")
def dpo(
    deployment: Deployment = "assistant",
    qlora: Qlora = False,
    param: Params = None,
    rollout: Rollout = "canary",
    gate: Gate = "enforce",
    start: Start = "stable",
    watch: Watch = False,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Direct preference optimisation on the preference pairs."""
    _train("dpo", deployment, qlora, param, rollout, gate, start, watch, as_json, data)


@train_app.command("sft")
def sft(
    deployment: Deployment = "assistant",
    qlora: Qlora = False,
    param: Params = None,
    rollout: Rollout = "canary",
    gate: Gate = "enforce",
    start: Start = "stable",
    watch: Watch = False,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Supervised fine-tuning on the demonstrations."""
    _train("sft", deployment, qlora, param, rollout, gate, start, watch, as_json, data)


def _train(
    method: str,
    deployment: str,
    qlora: bool,
    param: list[str] | None,
    rollout: str,
    gate: str,
    start: str,
    watch: bool,
    as_json: bool,
    data: Any,
) -> None:
    fields = {
        "deployment": deployment,
        "qlora": qlora,
        "params": dict(_parameter(text) for text in param or []),
        "rollout": rollout,
        "gate": gate,
        "start": start,
    }
    run = ask(lambda client: client.create_run(method, **fields), data)
    if watch:
        run = _follow(run["id"], data, quiet=as_json)
    if as_json:
        show(run, True)
    elif not watch:
        console.print(f"{run['id']} is {run['state']}: follow it with `trimtab runs watch {run['id']}`")


def _parameter(text: str) -> tuple[str, Any]:
    """`name=value`, the value as JSON where it is JSON, else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        fail(f"--param {text!r}: accepted is NAME=VALUE, such as learning_rate=1e-4", 2)
    try:
        return name, json.loads(value)
    except ValueError:
        try:
            return name, float(value)
        except ValueError:
            return name, value


@runs_app.command("list")
def list_runs(as_json: AsJson = False, data: DataOption = None) -> None:
    """Runs, newest first."""
    rows = ask(lambda client: client.list_runs(), data)
    columns = {
        "id": "run",
        "method": "method",
        "deployment": "deployment",
        "state": "state",
        "step": "step",
        "total_steps": "of",
        "release": "release",
        "created_at": "asked",
    }
    show(rows, as_json, columns, "no runs yet: `trimtab train dpo` starts one")


@runs_app.command("show")
def show_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """One run with its metrics, gate decision and times."""
    show(ask(lambda client: client.get_run(run), data), as_json)


@runs_app.command("watch")
def watch_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Follow a run to its end; exit 1 when it ends badly."""
    found = _follow(run, data, quiet=as_json)
    if as_json:
        show(found, True)


@runs_app.command("cancel")
def cancel_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """End a run within seconds; it can be resumed."""
    _said(ask(lambda client: client.cancel_run(run), data), as_json)


@runs_app.command("resume")
def resume_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Take a cancelled or failed run up from its newest checkpoint."""
    _said(ask(lambda client: client.resume_run(run), data), as_json)


def _said(run: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show(run, True)
    else:
        console.print(f"{run['id']} is {run['state']}")


def _follow(run_id: str, data: Any, quiet: bool) -> dict[str, Any]:
    """Shows a run's states and steps until it settles; the run as it is then."""

    async def follow(client: PlatformClient) -> dict[str, Any]:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=quiet,
        )
        with bar:
            task = bar.add_task(run_id, total=None, said="")
            async for event in client.run_events(run_id):
                if event["event"] == "state":
                    bar.update(task, description=f"{run_id} {event['to']}")
                elif event["event"] == "metrics":
                    parts = [
                        f"{key} {event[key]:.4g}"
                        for key in ("loss", "rewards/margins")
                        if event.get(key) is not None
                    ]
                    bar.update(
                        task, completed=event["step"], total=event.get("total_steps"), said=", ".join(parts)
                    )
        found: dict[str, Any] = await client.get_run(run_id)
        return found

    run = ask(follow, data)
    if not quiet:
        console.print(_outcome(run), highlight=False, soft_wrap=True)
    if run["state"] in ENDED_BADLY:
        if quiet:
            show(run, True)
        raise typer.Exit(1)
    return run


def _outcome(run: dict[str, Any]) -> str:
    text = f"{run['id']} ended as {run['state']}"
    if run.get("release"):
        text += f", release {run['release']}"
    if run.get("error"):
        text += f": {run['error']}"
    decision = run.get("gate_decision")
    if decision and decision["reasons"]:
        text += f" (gate: {'; '.join(decision['reasons'])})"
    return text
