"""`trimtab jobs …`, and how a command follows the job that it started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from common.durations import duration
from trimtab.cli.common import INTERRUPTED, AsJson, DataOption, ask, console, errors, show, show_state

if TYPE_CHECKING:
    from trimtab_client import AsyncClient
    from trimtab_client.types import Job

app = typer.Typer(help="Long tasks of the platform.", no_args_is_help=True)

POLL_S = 0.5
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.")]


@app.command("list")
def list_jobs(
    kind: Annotated[str | None, typer.Option(help="Jobs of this kind alone.")] = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """List jobs, newest first."""
    rows = ask(lambda client: client.jobs.list(kind), data)
    columns = {"id": "job", "kind": "kind", "state": "state", "requested_by": "by", "created_at": "asked"}
    show(rows, as_json, columns, "no jobs yet")


@app.command("show")
def show_job(job: JobId, as_json: AsJson = False, data: DataOption = None) -> None:
    """Show one job with its parameters, progress and result."""
    show(ask(lambda client: client.jobs.get(job), data), as_json)


@app.command("watch")
def watch_job(job: JobId, as_json: AsJson = False, data: DataOption = None) -> None:
    """Follow a job to its end; exit 1 when it ends badly."""
    found = follow(job, data, quiet=as_json)
    show(found if as_json else found["result"] or {}, as_json)


@app.command("cancel")
def cancel_job(job: JobId, as_json: AsJson = False, data: DataOption = None) -> None:
    """End a job within seconds; what it has done is kept, and it can be resumed."""
    show_state(ask(lambda client: client.jobs.cancel(job), data), as_json)


@app.command("resume")
def resume_job(job: JobId, as_json: AsJson = False, data: DataOption = None) -> None:
    """Take a cancelled or failed job up after what it has done."""
    show_state(ask(lambda client: client.jobs.resume(job), data), as_json)


def follow(job_id: str, data: Any, quiet: bool) -> Job:
    """Show a job's progress until it ends, and return it; the command ends with 1 where it failed or was cancelled.

    Ctrl-C ends the command and leaves the job.
    """

    from trimtab_client.values import JOB_UNDER_WAY

    async def wait(client: AsyncClient) -> Job:
        with _bar(quiet) as bar:
            task = bar.add_task("waiting", total=None, left="")
            while (job := await client.jobs.get(job_id))["state"] in JOB_UNDER_WAY:
                if at := job["progress"]:
                    left = at["seconds_left"]
                    bar.update(
                        task,
                        description=at["doing"] or job["kind"],
                        completed=at["done"],
                        total=at["total"],
                        left="" if left is None else f"about {duration(left)} left",
                    )
                await asyncio.sleep(POLL_S)
        return job

    try:
        job = ask(wait, data)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            errors.print(f"{job_id} goes on; `trimtab jobs watch` comes back to it, `jobs cancel` ends it")
        raise
    if job["state"] != "done":
        if quiet:
            show(job, True)
        else:
            why = f": {job['error']}" if job["error"] else ""
            console.print(
                f"{job_id} is {job['state']}{why}; `trimtab jobs resume {job_id}` goes on with it",
                highlight=False,
                soft_wrap=True,
            )
        raise typer.Exit(1)
    return job


def _bar(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
        disable=quiet or not console.is_interactive,
    )
