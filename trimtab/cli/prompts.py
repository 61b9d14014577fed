"""`trimtab prompts search`: the best system prompt and examples of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, fail, show
from trimtab.cli.jobs import follow
from trimtab.cli.releases.comparison import RequestsOption, RulesOption, given, read_rules, read_texts

app = typer.Typer(help="System prompts.", no_args_is_help=True)


@app.command("search")
def search(
    deployment: Annotated[str, typer.Argument(help="A deployment.")] = "assistant",
    candidates: Annotated[
        Path | None,
        typer.Option(help="System prompts of your own: a JSON list, or texts with blank lines between."),
    ] = None,
    built_in: Annotated[bool, typer.Option(help="Try the prompts that come with Trimtab.")] = True,
    write_with: Annotated[
        str | None, typer.Option(help="Have this model write prompts: a name, or a URL with --write-model.")
    ] = None,
    write_model: Annotated[
        str | None, typer.Option(help="Name of the model at the URL of --write-with.")
    ] = None,
    write_key_env: Annotated[
        str | None, typer.Option(help="Environment variable of the platform with the key of that URL.")
    ] = None,
    written: Annotated[int, typer.Option(min=1, max=32, help="How many prompts it is asked for.")] = 6,
    shots: Annotated[str, typer.Option(help="Numbers of examples to try, such as 0,2,4.")] = "0",
    rules: RulesOption = None,
    suite: Annotated[
        str | None,
        typer.Option(help="A suite whose win_rate or judge scores the answers; default: held-out votes."),
    ] = None,
    requests: RequestsOption = None,
    prompts: Annotated[
        int, typer.Option(min=2, max=1000, help="Requests that candidates are scored on at most.")
    ] = 64,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Find the best system prompt (and examples) by successive halving, and make it a release without traffic.

    Prompts are chosen on the training part of the newest snapshot, and the best is reported on its held-out part.
    """
    fields = {
        "candidates": read_texts("--candidates", candidates),
        "built_in": built_in,
        "write_with": _writer(write_with, write_model, write_key_env, written),
        "shots": _shots(shots),
        "rules": read_rules(rules),
        "suite": suite,
        "requests": read_texts("--requests", requests),
        "prompts": prompts,
    }
    asked = ask(lambda client: client.rollout.search_prompts(deployment, **given(fields)), data)
    job = follow(asked["id"], data, quiet=as_json)
    result = job["result"] or {}
    if as_json:
        show(result, True)
    else:
        _print(result, deployment)


def _writer(with_: str | None, model: str | None, key_env: str | None, count: int) -> dict[str, Any] | None:
    if with_ is None:
        return None
    if not with_.startswith(("http://", "https://")):
        return {"model": with_, "count": count}
    if model is None:
        fail("--write-model is needed where --write-with is a URL; accepted: the name of a model there", 2)
    return {"model": model, "url": with_, "key_env": key_env, "count": count}


def _shots(given_: str) -> list[int]:
    parts = [part.strip() for part in given_.split(",")]
    if not all(part.isdecimal() for part in parts):
        fail(f"--shots {given_}: accepted are whole numbers with commas between, such as 0,2,4", 2)
    return [int(part) for part in parts]


def _print(result: Mapping[str, Any], deployment: str) -> None:
    """Print the best candidates, the winner on test requests, and how to go on."""
    test = (result["test"] or {}).get("models", {})
    rows = []
    for one in result["best"]:
        kind = "few-shot" if one["shots"] else "prompt"
        measures = test.get(kind, {}).get("measures", {})
        tested = (
            measures.get("win_rate")
            or measures.get("judge_win_rate")
            or measures.get("reward_accuracy")
            or {}
        )
        rows.append(
            {
                "prompt": one["name"],
                "release": result["releases"].get(kind),
                "shots": str(one["shots"]),
                "development": _estimate(one["development"]),
                "test": _estimate(tested.get("release") or tested.get("unproven")),
                "instruction": one["instruction"],
            }
        )
    show(
        rows,
        False,
        {name: name for name in ("prompt", "release", "shots", "development", "test", "instruction")},
    )
    requests = f"{result['development_prompts']} to choose on, {result['test_prompts']} to test on"
    console.print(
        f"{result['candidates']} prompts, scored by {result['by']} against none; requests: {requests}; "
        f"{result['seconds'] / 60:.1f} min",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if result["release"] is None:
        console.print("No prompt is better than none; no release was made.")
    else:
        console.print(
            f"{result['release']} is there, without traffic: `trimtab rollout canary {deployment} {result['release']}`",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _estimate(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "-"
    if found.get("low") is None:
        return f"{found['value']:.3g}"
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
