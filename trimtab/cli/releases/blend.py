"""`trimtab releases blend`: a release whose adapter is combined from those of others."""

from __future__ import annotations

from typing import Annotated

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, fail, show

ACCEPTED = "accepted: RELEASE:WEIGHT, such as assistant@3:0.7"


def blend(
    releases: Annotated[
        list[str],
        typer.Argument(help="Releases of one deployment with their weights, such as assistant@3:0.7."),
    ],
    combination: Annotated[
        str, typer.Option(help="How PEFT combines: cat, svd, linear, ties, dare_linear and others.")
    ] = "cat",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of the new adapter, for svd kinds; default: the largest.")
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of values that ties, dare and magnitude_prune keep; default: 0.5."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the dare kinds drop.")] = 0,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Combine the adapters of releases into a new one, and make it a release without traffic."""
    weights = _weights(releases)
    fields = {"combination": combination, "rank": rank, "density": density, "seed": seed}
    given = {name: value for name, value in fields.items() if value is not None}
    made = ask(lambda client: client.rollout.blend_releases(weights, **given), data)
    if as_json:
        show(made, True)
        return
    facts = made.get("blend") or {}
    console.print(
        f"{made['name']} is there, without traffic: `trimtab rollout canary {made['deployment']} {made['name']}`\n"
        f"Adapter {made['adapter']} of rank {facts.get('rank')} by {facts.get('combination')}; its change of the weights is "
        f"{facts.get('distance', 0):.2%} from the weighted sum.",
        highlight=False,
        soft_wrap=True,
    )


def _weights(given: list[str]) -> dict[str, float]:
    """Return the weight of each release; a wrong one ends the command."""
    found: dict[str, float] = {}
    for text in given:
        release, colon, weight = text.rpartition(":")
        if not colon or not release:
            fail(f"{text} has no weight; {ACCEPTED}", 2)
        if release in found:
            fail(f"{release} is named twice; accepted: each release once", 2)
        try:
            found[release] = float(weight)
        except ValueError:
            fail(f"{weight!r} in {text} is no number; {ACCEPTED}", 2)
    return found
