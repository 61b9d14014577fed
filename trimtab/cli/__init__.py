"""The command line, `trimtab`: a client of the operations API wherever a platform is running. One module a group."""

from __future__ import annotations

import typer

from trimtab.cli import (
    adapters,
    audit,
    benchmark,
    chat,
    jobs,
    lineage,
    models,
    people,
    platform,
    prompts,
    raters,
    runs,
    schedule,
    usage,
)
from trimtab.cli.common import print_anything
from trimtab.cli.releases import blend, export, releases
from trimtab.cli.training_data import data, rows, snapshots

app = typer.Typer(
    name="trimtab",
    help="Serve chat models with hot-swapped LoRA adapters, and retrain them from what people say.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.callback()(print_anything)
for module in (platform, chat, usage, raters, benchmark, audit):
    module.register(app)
app.add_typer(models.app, name="models")
app.add_typer(data.pairs_app, name="pairs")
app.add_typer(data.demos_app, name="demos")
app.add_typer(data.likes_app, name="likes")
app.add_typer(rows.app, name="rows")
app.add_typer(raters.gold_app, name="gold")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(runs.train_app, name="train")
app.add_typer(runs.runs_app, name="runs")
app.command("eval")(releases.evaluate)
app.add_typer(releases.releases_app, name="releases")
releases.releases_app.command("blend")(blend.blend)
releases.releases_app.command("export")(export.export)
app.add_typer(releases.rollout_app, name="rollout")
app.add_typer(schedule.app, name="schedule")
app.add_typer(jobs.app, name="jobs")
app.add_typer(prompts.app, name="prompts")
app.add_typer(lineage.app, name="lineage")
app.add_typer(adapters.app, name="adapters")
app.add_typer(people.keys_app, name="keys")
app.add_typer(people.users_app, name="users")

__all__ = ["app"]
