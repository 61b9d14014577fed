"""`trimtab raters` and `trimtab gold add`: how far raters can be relied on, and questions to measure that by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, show

if TYPE_CHECKING:
    from trimtab_client import AsyncClient

gold_app = typer.Typer(help="Questions whose answer is known, to measure raters by.", no_args_is_help=True)

COLUMNS = {
    "name": "rater",
    "votes": "votes",
    "agreement": "agrees",
    "gold": "gold questions",
    "median_seconds": "median s",
    "share_a": "chose A",
    "share_undecided": "undecided",
    "flags": "look at",
}


def register(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command()(raters)


def raters(as_json: AsJson = False, data: DataOption = None) -> None:
    """Show how raters agree with each other and with gold questions, how fast they are, which side they favour."""

    async def both(client: AsyncClient) -> dict[str, Any]:
        return {
            "raters": await client.preferences.raters(),
            "agreement": await client.preferences.agreement(),
        }

    found = ask(both, data)
    if as_json:
        show(found, True)
        return
    rows = [row | {"gold": f"{row['gold_right']} of {row['gold_total']}"} for row in found["raters"]]
    show(rows, False, COLUMNS, "nobody has voted yet")
    agreement = found["agreement"]
    if agreement["alpha"] is not None:
        console.print(
            f"\nKrippendorff's alpha {agreement['alpha']:.2f} over {agreement['comparisons']} comparisons "
            f"with {agreement['votes']} votes (1 is agreement, 0 what chance gives)",
            highlight=False,
        )


@gold_app.command("add")
def add(
    question: Annotated[str, typer.Argument(help="What is asked.")],
    good: Annotated[str, typer.Option(help="The answer that is right.")],
    bad: Annotated[str, typer.Option(help="The answer that is wrong.")],
    deployment: Annotated[str | None, typer.Option(help="Deployment; default: every one.")] = None,
    votes: Annotated[int, typer.Option(min=1, max=1000, help="Raters that it is shown to.")] = 10,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Put a question into the raters' queue; it looks like any other, and its votes teach nothing."""
    messages = [{"role": "user", "content": question}]
    made = ask(
        lambda client: client.preferences.add_gold(
            messages, good, bad, deployment=deployment, votes_wanted=votes
        ),
        data,
    )
    if as_json:
        show(made, True)
    else:
        console.print(f"{made['id']} waits for {votes} raters", highlight=False)
