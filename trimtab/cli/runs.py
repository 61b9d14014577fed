"""`trimtab train dpo|sft|kto` and `trimtab runs …`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.training_methods import METHODS, Method
from trimtab.cli.common import INTERRUPTED, AsJson, DataOption, ask, console, errors, fail, show, show_state

if TYPE_CHECKING:
    from trimtab_client import AsyncClient
    from trimtab_client.types import Plan, Run

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
Start = Annotated[str, typer.Option(help="What training goes on from: auto, stable (its adapter) or base.")]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="A recipe's name, or a TOML file of your own; --param wins over it."),
]
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Say what it would need and start nothing; exit 1 when it does not fit."),
]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it to its end.")]

SUMMARIES: dict[Method, str] = {
    "dpo": "Direct preference optimisation on the preference pairs.",
    "sft": "Supervised fine-tuning on the demonstrations.",
    "kto": "KTO on likes and dislikes of single answers.",
}


def _register(method: Method, summary: str) -> None:
    """Add `trimtab train METHOD`; every method takes the same options."""

    def train(
        deployment: Deployment = "assistant",
        qlora: Qlora = False,
        recipe: RecipeOption = None,
        param: Params = None,
        rollout: Rollout = "canary",
        gate: Gate = "enforce",
        start: Start = "auto",
        plan: PlanOnly = False,
        watch: Watch = False,
        as_json: AsJson = False,
        data: DataOption = None,
    ) -> None:
        wanted = _wanted(method, deployment, qlora, recipe, param, rollout, gate, start)
        _train(method, wanted, plan, watch, as_json, data)

    train_app.command(method, help=summary)(train)


for _method in METHODS:
    if _method != "sft":
        _register(_method, SUMMARIES[_method])


@train_app.command("sft", help=SUMMARIES["sft"])
def train_sft(
    deployment: Annotated[
        str | None,
        typer.Option(help="Deployment to train for; default: assistant, with --distil the release's own."),
    ] = None,
    distil: Annotated[
        str | None,
        typer.Option(help="A release with a system prompt: learn to answer as it does, without the prompt."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="With --distil, a file of prompts, as `pairs make` takes it.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="With --distil, traffic: the newest prompts of people.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=8, help="With --distil, answers to each prompt.")] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="With --distil, max tokens of an answer.")] = 512,
    qlora: Qlora = False,
    recipe: RecipeOption = None,
    param: Params = None,
    rollout: Rollout = "canary",
    gate: Gate = "enforce",
    start: Start = "auto",
    plan: PlanOnly = False,
    watch: Watch = False,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Train on demonstrations; with --distil on a release's own answers."""
    wanted = _wanted("sft", deployment or "assistant", qlora, recipe, param, rollout, gate, start)
    if distil is None:
        if prompts is not None or source is not None:
            fail("--prompts and --from are for --distil RELEASE", 2)
        _train("sft", wanted, plan, watch, as_json, data)
        return
    if plan:
        fail("--plan is without --distil: there are no rows to plan with before they are sampled", 2)
    from trimtab.cli.training_data.make_pairs import prompts_of

    sampled = {"prompts": prompts_of(prompts, source), "n": n, "max_tokens": max_tokens, "release": distil}
    _distil(wanted | sampled | {"deployment": deployment}, watch, as_json, data)


def _distil(body: dict[str, Any], watch: bool, as_json: bool, data: Any) -> None:
    """Have a release sampled, then follow the run that learns its answers."""
    from trimtab.cli.jobs import follow

    job = ask(lambda client: client.runs.distil(body), data)
    result = follow(job["id"], data, quiet=as_json)["result"] or {}
    if not as_json:
        console.print(
            f"{result['demonstrations']} answers of {result['compare_with']} ({result['source']}); "
            f"{result['heldout']} prompts kept for held-out data",
            highlight=False,
            soft_wrap=True,
        )
    run = _follow(result["run"], data, quiet=as_json) if watch else None
    if as_json:
        show(result | ({"ended": run} if run else {}), True)
    elif run is None:
        console.print(f"follow it with `trimtab runs watch {result['run']}`", highlight=False)
    elif run.get("release"):
        compare = f"trimtab eval {run['release']} --against {result['compare_with']}"
        console.print(f"compare it with the prompt: `{compare}`", highlight=False, soft_wrap=True)


def _wanted(
    method: str,
    deployment: str,
    qlora: bool,
    recipe: str | None,
    param: list[str] | None,
    rollout: str,
    gate: str,
    start: str,
) -> dict[str, Any]:
    """Return the request's fields; a recipe file is read on this machine and sent as parameters."""
    params = dict(_parameter(text) for text in param or [])
    if recipe and recipe.endswith(".toml"):
        from align.errors import RecipeError
        from align.recipe.recipe import load

        try:
            _, table = load(recipe)
        except RecipeError as error:
            fail(str(error), 2)
        wanted = table.pop("method", method)
        if wanted != method:
            fail(f"--recipe {recipe} is for `trimtab train {wanted}`", 2)
        qlora = bool(table.pop("qlora", False)) or qlora
        params, recipe = {**table, **params}, None
    fields = {
        "deployment": deployment,
        "qlora": qlora,
        "params": params,
        "rollout": rollout,
        "gate": gate,
        "start": start,
    }
    return fields | ({"recipe": recipe} if recipe else {})


def _train(method: Method, fields: dict[str, Any], plan: bool, watch: bool, as_json: bool, data: Any) -> None:
    if plan:
        _show_plan(ask(lambda client: client.runs.plan(method, **fields), data), as_json)
        return
    run = ask(lambda client: client.runs.create(method, **fields), data)
    if watch:
        run = _follow(run["id"], data, quiet=as_json)
    if as_json:
        show(run, True)
    elif not watch:
        console.print(f"{run['id']} is {run['state']}: follow it with `trimtab runs watch {run['id']}`")


def _show_plan(found: Plan, as_json: bool) -> None:
    if as_json:
        show(found, True)
    else:
        changed = {name: where for name, where in found["origin"].items() if where != "default"}
        for name, where in changed.items():
            console.print(f"{name} = {found['values'].get(name)} ({where})", highlight=False, soft_wrap=True)
        console.print(f"{found['rows']} rows, on {found['device']}", highlight=False)
        console.print(found["text"], highlight=False, soft_wrap=True, markup=False)
    if not found["fits"]:
        raise typer.Exit(1)


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
    """List runs, newest first."""
    rows = ask(lambda client: client.runs.list(), data)
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
    """Show one run with its metrics, gate decision and times."""
    show(ask(lambda client: client.runs.get(run), data), as_json)


@runs_app.command("watch")
def watch_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Follow a run to its end; exit 1 when it ends badly."""
    found = _follow(run, data, quiet=as_json)
    if as_json:
        show(found, True)


@runs_app.command("cancel")
def cancel_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """End a run within seconds; it can be resumed."""
    show_state(ask(lambda client: client.runs.cancel(run), data), as_json)


@runs_app.command("resume")
def resume_run(run: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Take a cancelled or failed run up from its newest checkpoint."""
    show_state(ask(lambda client: client.runs.resume(run), data), as_json)


def _follow(run_id: str, data: Any, quiet: bool) -> Run:
    """Show a run's states and steps until it settles; return the run as it is then."""

    from trimtab.cli.watch import RunScreen
    from trimtab_client.values import RUN_ENDED_BADLY

    async def follow(client: AsyncClient) -> Run:
        with nullcontext() if quiet else RunScreen(console) as screen:
            async for event in client.runs.events(run_id):
                if screen is not None:
                    screen.take(event)
        return await client.runs.get(run_id)

    if not quiet:
        console.print(run_id, highlight=False)
    try:
        run = ask(follow, data)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            errors.print(f"{run_id} goes on; `trimtab runs watch` comes back to it, `runs cancel` ends it")
        raise
    if not quiet:
        console.print(_outcome(run), highlight=False, soft_wrap=not console.is_terminal)
    if run["state"] in RUN_ENDED_BADLY:
        if quiet:
            show(run, True)
        raise typer.Exit(1)
    return run


def _outcome(run: Run) -> str:
    text = f"{run['id']} ended as {run['state']}"
    if run.get("release"):
        text += f", release {run['release']}"
    if run.get("error"):
        text += f": {run['error']}"
    decision = run.get("gate_decision")
    if decision and decision["reasons"]:
        text += f" (gate: {'; '.join(decision['reasons'])})"
    return text
