"""`trimtab pairs make`: preference pairs without people."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, fail, read_text, show

PROMPTS_ACCEPTED = (
    'one prompt a line as text (.txt), or JSON lines of texts, {"prompt": ...} or {"messages": [...]}'
)


def make(
    deployment: Annotated[str, typer.Argument(help="Its stable release answers.")] = "assistant",
    prompts: Annotated[Path | None, typer.Option(help=f"A file of prompts: {PROMPTS_ACCEPTED}.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="traffic: the newest prompts that people asked and share.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="A TOML or JSON file with `rules`, `prefer` (shorter or longer), or both."),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible API that judges.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Name of the judge's model there.")] = None,
    judge_key_env: Annotated[
        str | None, typer.Option(help="Environment variable of the platform that holds the judge's key.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="A better release, whose answers are preferred.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=2, max=32, help="Answers sampled for each prompt.")] = 4,
    against: Annotated[
        str, typer.Option(help="What the best answer is paired with: worst, or low (the one above it).")
    ] = "worst",
    cut: Annotated[
        str,
        typer.Option(help="Answers that reach --max-tokens: drop, or reject (with rules: the worse ones)."),
    ] = "drop",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Prompts of traffic at most.")] = 300,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the answers; default: the release's own sampling.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Max tokens of an answer.")] = 512,
    weight: Annotated[float, typer.Option(help="Weight of each pair, above 0 and at most 1.")] = 1.0,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Take a judge that was not shown to agree with people.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many requests that makes and how long it takes.")
    ] = False,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Make preference pairs of a release's own answers, decided by rules, a judge or a better release."""
    from trimtab.cli.jobs import follow

    if sum(one is not None for one in (rules, judge, release)) != 1:
        fail("exactly one of --rules, --judge and --release decides the pairs", 2)
    body: dict[str, Any] = {
        "deployment": deployment,
        "prompts": prompts_of(prompts, source),
        "traffic": limit,
        "n": n,
        "against": against,
        "cut": cut,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "weight": weight,
        "uncalibrated": uncalibrated,
        "release": release,
    }
    if rules is not None:
        body["rules"] = table_of(rules, "--rules")
    if judge is not None:
        if judge_model is None:
            fail("--judge needs --judge-model, the name of its model", 2)
        body["judge"] = {"url": judge, "model": judge_model, "key_env": judge_key_env}
    if dry_run:
        plan = ask(lambda client: client.data.plan_pairs(body), data)
        if as_json:
            show(plan, True)
        else:
            console.print(plan["text"], highlight=False, soft_wrap=True)
        return
    job = ask(lambda client: client.data.make_pairs(body), data)
    done = follow(job["id"], data, quiet=as_json)
    if as_json:
        show(done, True)
    else:
        console.print(outcome(done["result"] or {}), highlight=False, soft_wrap=True)


def outcome(result: dict[str, Any]) -> str:
    """Say what became of the prompts."""
    parts = [f"{result['pairs']} pairs ({result['source']}) of {result['prompts']} prompts"]
    parts.append(f"{result['heldout']} prompts kept for held-out data")
    parts += [
        f"{result[name]} {word}"
        for name, word in (
            ("duplicates", "pairs known already"),
            ("undecided", "prompts without a clearly better answer"),
            ("cut", "answers cut"),
            ("blank", "answers blank"),
            ("refused", "prompts refused"),
            ("invalid", "comparisons without a valid verdict"),
        )
        if result.get(name)
    ]
    if judge := result.get("judge"):
        parts.append(f"judge not calibrated: {judge['why']}" if judge["why"] else "judge calibrated")
    return "; ".join(parts)


def prompts_of(file: Path | None, source: str | None) -> list[Any] | None:
    """Return the prompts of a file, None for those of traffic; a fault ends the command."""
    if (file is None) == (source is None):
        fail("exactly one of --prompts FILE and --from traffic says which prompts", 2)
    if file is None:
        if source != "traffic":
            fail(f"--from {source}: accepted is traffic", 2)
        return None
    text = read_text("--prompts", file)
    if file.suffix not in (".jsonl", ".json"):
        return [line for line in text.splitlines() if line.strip()]
    try:
        rows = json.loads(text) if file.suffix == ".json" else None
        if rows is None:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        fail(f"--prompts {file}: {error}; accepted: {PROMPTS_ACCEPTED}", 2)
    if not isinstance(rows, list):
        fail(f"--prompts {file}: accepted: {PROMPTS_ACCEPTED}", 2)
    return [_prompt(row) for row in rows]


def _prompt(row: Any) -> Any:
    if isinstance(row, dict):
        return row.get("messages", row.get("prompt"))
    return row


def table_of(file: Path, option: str) -> dict[str, Any]:
    """Return the table of a TOML or JSON file; a fault ends the command."""
    text = read_text(option, file)
    try:
        table = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:  # as TOML's is
        fail(f"{option} {file}: {error}; accepted: TOML, or JSON in a file that ends in .json", 2)
    if not isinstance(table, dict):
        fail(f"{option} {file}: accepted is a table with rules, prefer, or both", 2)
    return table
