"""`trimtab models list|add|prepare|compare`: base models."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.common import AsJson, ConfigOption, DataOption, ask, console, fail, settings, show
from trimtab.config.paths import DataPaths
from trimtab.errors import PathRefused

if TYPE_CHECKING:
    from trimtab_client import AsyncClient

app = typer.Typer(help="Base models.", no_args_is_help=True)

PROMPT = "Explain in three sentences why the sky is blue."


@app.command("list")
def list_models(as_json: AsJson = False, data: DataOption = None, config: ConfigOption = None) -> None:
    """List the base models of the settings, and whether their weights are here."""
    chosen = settings(config, data=data)
    paths = DataPaths(chosen.data.absolute())
    rows = []
    for name, engine in chosen.engines.items():
        directory = Path(engine.model) if engine.model else paths.model(engine.base)
        here = (directory / "config.json").is_file()
        where = (
            "elsewhere"
            if engine.url
            else "here"
            if here
            else "hub id"
            if engine.model
            else "not prepared yet"
        )
        rows.append(
            {"engine": name, "base": engine.base, "model": engine.url or str(directory), "weights": where}
        )
    show(rows, as_json, {"engine": "engine", "base": "base", "model": "model", "weights": "weights"})


@app.command("add")
def add_model(
    base: Annotated[str, typer.Argument(help="Public name of the base model.")],
    model: Annotated[str, typer.Argument(help="A Hugging Face directory or hub id.")],
    config: Annotated[Path, typer.Option(help="Settings file to add it to.")] = Path("trimtab.toml"),
) -> None:
    """Add a base model to the settings file; the next `trimtab up` serves it."""
    import tomlkit

    from trimtab.config.serving_sections import DEFAULT_BASE

    if model.startswith((".", "/", "~")) and not (Path(model).expanduser() / "config.json").is_file():
        fail(f"{model} is not a Hugging Face model directory: it has no config.json")
    document = tomlkit.parse(config.read_text("utf-8-sig")) if config.exists() else tomlkit.document()
    engines = document.setdefault("engines", tomlkit.table(is_super_table=True))
    if base in engines or any(engine.get("base") == base for engine in engines.values()):
        fail(f"{config} has a base model {base!r} already")
    if not engines:
        # naming one engine replaces the default ones, so the built-in base is named too
        engines["main"] = {"base": DEFAULT_BASE}
    engines[base] = {"base": base, "model": str(Path(model).expanduser()) if model.startswith("~") else model}
    before = config.read_text() if config.exists() else None
    config.write_text(tomlkit.dumps(document), "utf-8")
    try:
        settings(config)
    except typer.Exit:
        if before is None:
            config.unlink()
        else:
            config.write_text(before)
        raise
    console.print(f"{base} is in {config}; restart `trimtab up` to serve it", markup=False)


@app.command("prepare")
def prepare(data: DataOption = None, config: ConfigOption = None) -> None:
    """Prepare the built-in model's weights once (about half a minute)."""
    from trimtab.config.serving_sections import DEFAULT_BASE
    from trimtab.config.writing import writing

    paths = DataPaths(settings(config, data=data).data.absolute())
    try:
        with writing(paths.root):
            paths.make()
    except PathRefused as error:
        fail(str(error))
    directory = paths.model(DEFAULT_BASE)
    if (directory / "config.json").is_file():
        console.print(f"{DEFAULT_BASE} is in {directory} already", markup=False)
        return
    console.print(f"preparing {DEFAULT_BASE} in {directory} (about half a minute) …", markup=False)
    # a process of its own: the platform and its command line never import torch
    status = subprocess.run(
        [sys.executable, "-m", "align.prepare", "--out", str(directory)], check=False
    ).returncode
    if status != 0:
        fail(f"preparing {DEFAULT_BASE} ended with status {status}")


@app.command("compare")
def compare(
    names: Annotated[list[str], typer.Argument(help="Two or more deployments, releases or base models.")],
    prompt: Annotated[str, typer.Option(help="What to ask each one.")] = PROMPT,
    max_tokens: Annotated[int, typer.Option(min=1)] = 96,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Send several models the same prompt: answer, time to first token, tokens per second."""

    async def run(client: AsyncClient) -> list[dict[str, Any]]:
        return [await _measure(client, name, prompt, max_tokens) for name in names]

    columns = {
        "model": "model",
        "first_token_s": "first token s",
        "tokens_per_s": "tokens/s",
        "answer": "answer",
    }
    show(ask(run, data), as_json, columns)


async def _measure(client: AsyncClient, name: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    started, first, pieces = time.perf_counter(), None, []
    messages = [{"role": "user", "content": prompt}]
    async for delta in client.chat.stream(name, messages, max_tokens=max_tokens, store=False):
        if delta.text:
            first = first or time.perf_counter()
            pieces.append(delta.text)
    seconds = time.perf_counter() - (first or started)
    return {
        "model": name,
        "first_token_s": round((first or started) - started, 3),
        "tokens_per_s": round((len(pieces) - 1) / seconds, 1) if len(pieces) > 1 else None,
        "answer": "".join(pieces),
    }
