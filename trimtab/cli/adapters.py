"""`trimtab adapters list|prune|merge`: what training left on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.common import AsJson, ConfigOption, DataOption, ask, console, fail, settings, show
from trimtab.config.paths import DataPaths

app = typer.Typer(help="Adapters: what each costs, old ones, merging.", no_args_is_help=True)


@app.command("list")
def list_adapters(as_json: AsJson = False, data: DataOption = None) -> None:
    """List adapters, newest first, with the time per token with each and without."""
    rows = ask(lambda client: client.rollout.adapters(), data)
    columns = {
        "id": "adapter", "base": "base", "rank": "rank", "cost": "token with / without, ms", "on_disk": "on disk",
        "needed": "needed", "created_at": "made",
    }  # fmt: skip
    show(rows if as_json else [row | {"cost": _cost(row["parity"])} for row in rows], as_json, columns)


def _cost(parity: dict[str, Any] | None) -> str | None:
    if not parity:
        return None
    cost = parity.get("cost")
    return f"{cost['adapter_ms']:g} / {cost['base_ms']:g}" if cost and cost.get("base_ms") else "unknown"


@app.command("prune")
def prune(
    keep_last: Annotated[int | None, typer.Option(min=0, help="Newest adapters to keep.")] = None,
    max_age_days: Annotated[float | None, typer.Option(help="Age from which adapters go.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Delete old adapters; what a deployment, a rollback or a run needs always stays."""
    done = ask(lambda client: client.rollout.prune_adapters(keep_last, max_age_days, dry_run), data)
    if as_json:
        show(done, True)
    else:
        what = "would go" if done["dry_run"] else "deleted"
        console.print(
            f"{len(done['removed'])} adapters {what} {' '.join(done['removed'])}".strip(), highlight=False
        )


@app.command("merge")
def merge(
    release: Annotated[str, typer.Argument(help="A release with an adapter, such as `assistant@3`.")],
    out: Annotated[Path, typer.Option(help="New directory for the merged model.")],
    as_json: AsJson = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Merge a release's adapter into its base model, for an engine of its own without the cost of LoRA."""
    from trimtab.base_models.local import model_of

    found = ask(lambda client: client.rollout.release(release), data)
    if not found["adapter"]:
        fail(f"{release} has no adapter: it is the base model {found['base']} as it is")
    chosen = settings(config, data=data)
    paths = DataPaths(chosen.data.absolute())
    argv = [
        *(
            sys.executable,
            "-m",
            "align.merge",
            "--model",
            str(model_of(chosen.engines, paths, found["base"])),
        ),
        *("--adapter", str(paths.adapters / found["adapter"]), "--out", str(out)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail((done.stderr.strip().splitlines() or ["the merge ended without a reason"])[-1])
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    if as_json:
        show(facts, True)
        return
    name = release.replace("@", "-")
    console.print(
        f"{release} is merged in {facts['out']} (log-probabilities differ by {facts['mean_abs']:.2g} a token).\n"
        f"Serve it: trimtab models add {name} {facts['out']}, restart, then "
        f"trimtab releases create {found['deployment']} --base {name}",
        highlight=False,
        soft_wrap=True,
    )
