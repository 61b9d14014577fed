"""`trimtab benchmark RELEASE`: tasks of lm-evaluation-harness, run in an environment of its own against the gateway."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, address, console, fail, show
from trimtab.errors import PlatformNotFound

HARNESS = "TRIMTAB_LM_EVAL"
"""Environment variable with the path of the harness's command."""
INSTALL = "python -m venv .venv-evals && .venv-evals/bin/pip install -r requirements/evals.txt"


def register(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command()(benchmark)


def benchmark(
    release: Annotated[str, typer.Argument(help="A release, a deployment or a base model.")],
    tasks: Annotated[str, typer.Option(help="Tasks that the harness knows, separated by commas.")] = "",
    jsonl: Annotated[
        list[Path] | None,
        typer.Option(help="A file with a prompt and an answer in each line; may be repeated."),
    ] = None,
    include: Annotated[Path | None, typer.Option(help="Folder with task files of your own (YAML).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each task at most.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 256,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests at once.")] = 8,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Model directory; then /v1/completions is asked, which log-likelihood tasks need."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder that keeps results and samples.")] = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Measure a release by tasks of lm-evaluation-harness, through the platform; no request of it is stored."""
    command = harness()
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    for option, path in (("--include", include), ("--tokenizer", tokenizer)):
        if path is not None and not path.is_dir():
            fail(f"{option} {path}: accepted is a folder that exists", 2)
    try:
        url, key = address(data)
    except PlatformNotFound as error:
        fail(str(error))
    with tempfile.TemporaryDirectory() as scratch:
        local = [write_task(Path(scratch) / "tasks", file) for file in jsonl or ()]
        if not names and not local:
            fail("no tasks: name some with --tasks, or files with --jsonl", 2)
        if local and include is not None:
            fail("--include and --jsonl: one of both", 2)
        folder = include or (Path(scratch) / "tasks" if local else None)
        results = out or Path(scratch) / "results"
        argv = [
            *arguments(command, release, url, tokenizer, concurrency, max_tokens),
            *("--tasks", ",".join([*names, *local])),
            *(("--include_path", str(folder.absolute())) if folder else ()),
            *(("--limit", str(limit)) if limit else ()),
            *("--output_path", str(results.absolute()), "--log_samples"),
        ]
        environment = {**os.environ, "OPENAI_API_KEY": key or "none"}
        with console.status(f"measuring {release}") if not as_json else nullcontext():
            ended = subprocess.run(
                argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
        if ended.returncode:
            end = ended.stdout.decode(errors="replace").strip().splitlines()[-5:]
            fail(f"the harness ended with {ended.returncode}; its last lines:\n" + "\n".join(end))
        report(read_results(results), as_json)


def harness() -> str:
    """Return the harness's command: of the environment variable, of `.venv-evals`, or on the path."""
    given = os.environ.get(HARNESS)
    found = shutil.which(given or "lm_eval") if given else None
    beside = Path(".venv-evals/bin/lm_eval")
    found = found or (str(beside.absolute()) if not given and beside.exists() else None)
    found = found or (None if given else shutil.which("lm_eval"))
    if found is None:
        where = f"{HARNESS}={given}" if given else f"{HARNESS}, .venv-evals or the path"
        fail(f"lm_eval is not in {where}; install it apart from the platform: {INSTALL}", 2)
    return found


def arguments(
    command: str, release: str, url: str, tokenizer: Path | None, concurrency: int, max_tokens: int
) -> list[str]:
    """Return the harness's command line up to its tasks."""
    chat = tokenizer is None
    given: dict[str, Any] = {
        "model": release,
        "base_url": f"{url.rstrip('/')}/v1/{'chat/' if chat else ''}completions",
        "num_concurrent": concurrency,
        "max_retries": 3,
        "tokenized_requests": False,
        "max_gen_toks": max_tokens,
    }
    if tokenizer is not None:
        given |= {"tokenizer_backend": "huggingface", "tokenizer": str(tokenizer.absolute())}
    listed = ",".join(f"{name}={value}" for name, value in given.items())
    kind = "local-chat-completions" if chat else "local-completions"
    argv = [command, "--model", kind, "--model_args", listed, "--gen_kwargs", "store=False"]
    return [*argv, "--apply_chat_template"] if chat else argv


def write_task(folder: Path, file: Path) -> str:
    """Write a task over a file of prompts and answers, and return its name."""
    try:
        rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        fail(f"--jsonl {file}: cannot be read: {error}", 2)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not all(isinstance(row.get(k), str) for k in ("prompt", "answer")):
            fail(f"--jsonl {file}: line {number}: accepted is an object with the texts prompt and answer", 2)
    if not rows:
        fail(f"--jsonl {file}: it has no line", 2)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", file.stem)
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file.absolute())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "do_sample": False, "temperature": 0.0},
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": True,
            }
        ],
        "metadata": {"version": 1},
    }
    # JSON is YAML, too.
    (folder / f"{name}.yaml").write_text(json.dumps(task, indent=1), "utf-8")
    return name


def read_results(folder: Path) -> dict[str, Any]:
    """Return the newest results that the harness wrote to a folder."""
    files = sorted(folder.rglob("results_*.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        fail(f"the harness wrote no results to {folder}")
    found: dict[str, Any] = json.loads(files[-1].read_text("utf-8"))
    return found


def report(found: Mapping[str, Any], as_json: bool) -> None:
    """Print each task's measures with their standard errors."""
    if as_json:
        show(dict(found), True)
        return
    rows = []
    for task, measures in found["results"].items():
        for name, value in measures.items():
            metric, _, kind = name.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or metric == "sample_len":
                continue
            error = measures.get(f"{metric}_stderr,{kind}")
            error = f"{error:.4f}" if isinstance(error, int | float) else "-"
            rows.append(
                {"task": task, "metric": metric, "filter": kind, "value": f"{value:.4f}", "error": error}
            )
    columns = {
        "task": "task",
        "metric": "measure",
        "filter": "filter",
        "value": "value",
        "error": "std error",
    }
    show(rows, False, columns, "no measures")
    console.print("Each task's documents and answers are kept with --out FOLDER.", highlight=False)
