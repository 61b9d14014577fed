"""`trimtab models list|add|remove|prepare|compare`: base models."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli import offline
from trimtab.cli.common import (
    INTERRUPTED,
    AsJson,
    ConfigOption,
    DataOption,
    ask,
    console,
    errors,
    fail,
    settings,
    show,
)
from trimtab.cli.common import paths as _paths
from trimtab.cli.releases.comparison import (
    HtmlOption,
    RequestsOption,
    RulesOption,
    given,
    read_rules,
    read_texts,
    show_comparison,
)
from trimtab.config.paths import SETTINGS_FILE, DataPaths
from trimtab.errors import ModelRefused, PathRefused, SettingsError

if TYPE_CHECKING:
    from trimtab.base_models.add import Found, Request
    from trimtab.config.serving_sections import EngineSettings
    from trimtab_client import AsyncClient

app = typer.Typer(help="Base models.", no_args_is_help=True)

PROMPT = "Explain in three sentences why the sky is blue."


@app.command("list")
def list_models(as_json: AsJson = False, data: DataOption = None, config: ConfigOption = None) -> None:
    """List the base models of the settings, whether their weights are here, and what their engines do."""
    file = _settings_file(data, config)
    chosen = settings(file if config or file.is_file() else None, data=data)
    paths = DataPaths(chosen.data.absolute())
    states = _engine_states(data)
    rows = [
        {
            "engine": name,
            "base": engine.base,
            "model": engine.url or engine.model or str(paths.model(engine.base)),
            "revision": engine.revision,
            "weights": _weights(engine, paths),
            "state": states.get(engine.base),
        }
        for name, engine in chosen.engines.items()
    ]
    columns = ("engine", "base", "model", "revision", "weights", "state")
    show(rows, as_json, {name: name for name in columns})


def _data(file: Path, data: Path | None) -> DataPaths:
    return DataPaths(settings(file if file.is_file() else None, data=data).data.absolute())


def _weights(engine: EngineSettings, paths: DataPaths) -> str:
    from trimtab.base_models.local import resolve

    if engine.url:
        return "elsewhere"
    directory = resolve(engine.model, engine.revision) if engine.model else paths.model(engine.base)
    if (directory / "config.json").is_file():
        return "here"
    return "hub id" if engine.model else "not prepared yet"


def _engine_states(data: Path | None) -> dict[str, str]:
    """Return the state of each base's engines, nothing where no platform runs."""
    if not offline.running(data):
        return {}
    found = ask(lambda client: client.status(), data)["engines"]
    return {engine["base"]: engine["state"] for engine in found}


def _settings_file(data: Path | None, config: Path | None) -> Path:
    """Return the settings file: the one named, that of the platform that runs on the data directory, the default.

    It may not exist yet; a running platform then reads it where it looked for it at its start.
    """
    if config is not None:
        return config
    facts = _paths(data).read_platform() or {}
    return Path(facts.get("settings") or SETTINGS_FILE)


@app.command("add")
def add_model(
    base: Annotated[str, typer.Argument(metavar="NAME", help="Public name of the base model.")],
    model: Annotated[str, typer.Argument(help="A hub id, a Hugging Face directory or a .gguf file.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of a hub id; default: its main branch.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option(help="New deployment of it, to collect votes and to train.")
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="Chat template to use instead of the model's own.")
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a base model: download and check it, write it to the settings file, and serve it.

    A running platform serves it at once, without a restart; otherwise the next `trimtab up` does.
    """
    from trimtab.base_models import settings_edit
    from trimtab.base_models.add import Request

    file = _settings_file(data, config)
    try:
        settings_edit.require_free(file, base, deployment)
        found = _find(model, revision, Request(_data(file, data).model(base), chat_template, _say))
        settings_edit.add(file, base, {"model": found.model, "revision": found.revision}, deployment)
    except (ModelRefused, SettingsError, PathRefused) as error:
        fail(str(error))
    except KeyboardInterrupt:
        errors.print("stopped; the same command continues the download", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    console.print(f"{base} is in {file}", markup=False, highlight=False)
    if _is_served_here(data):
        ask(lambda client: client.rollout.add_base_model(base), data)
        console.print(
            f"its engine starts now: `trimtab models list` shows it, `trimtab chat {base}` talks to it"
        )
    else:
        console.print("the next `trimtab up` serves it", markup=False)


@app.command("remove")
def remove_model(
    base: Annotated[str, typer.Argument(metavar="NAME", help="Public name of the base model.")],
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Take away a base model with its unused deployments: engine and settings; files stay where they are."""
    from trimtab.base_models import settings_edit

    file = _settings_file(data, config)
    try:
        settings_edit.require_removable(file, base)
        if _is_served_here(data):
            ask(lambda client: client.rollout.remove_base_model(base), data)
        else:
            offline.delete_unused_deployments(data, base)
        settings_edit.remove(file, base)
    except (ModelRefused, SettingsError, PathRefused) as error:
        fail(str(error))
    console.print(f"{base} is out of {file}; its files stay where they are", markup=False, highlight=False)


def _is_served_here(data: Path | None) -> bool:
    """Return whether a platform runs on the data directory of this machine."""
    return _paths(data).read_platform() is not None


def _find(model: str, revision: str | None, request: Request) -> Found:
    from trimtab.base_models import add

    path = Path(model).expanduser()
    gguf = model.endswith(".gguf")
    local = path.is_dir() or model.startswith((".", "/", "~"))
    if revision is not None and (gguf or local):
        raise ModelRefused("--revision", f"{model} is a path", "a revision of a hub id")
    if gguf:
        return add.from_gguf(path, request)
    return add.from_directory(path, request) if local else add.from_hub(model, revision, request)


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False)


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
    suite: Annotated[
        str | None,
        typer.Option(help="Measure them on a suite instead: quick, default, full, or a .toml file."),
    ] = None,
    rules: RulesOption = None,
    requests: RequestsOption = None,
    deployment: Annotated[
        str | None, typer.Option(help="Whose held-out rows a suite uses; default: the first model's.")
    ] = None,
    html: HtmlOption = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Send several models the same prompt: answer, time to first token, tokens per second.

    With --suite, --rules, --requests or --html: measure them on a suite, the first one as the baseline.
    """
    if any(value is not None for value in (suite, rules, requests, deployment, html)):
        if prompt != PROMPT:
            fail(
                "--prompt is sent without a suite; accepted: --prompt, or --suite, --rules, --requests and --html",
                2,
            )
        fields = {
            "suite": suite or "default",
            "deployment": deployment,
            "rules": read_rules(rules),
            "requests": read_texts("--requests", requests),
        }
        show_comparison(
            lambda client: client.rollout.compare_models(names, **given(fields)), html, as_json, data
        )
        return

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
