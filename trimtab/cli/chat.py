"""`trimtab chat [MODEL]`: a conversation in the terminal."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from trimtab.cli.common import DataOption, ask, console, errors, explain

if TYPE_CHECKING:
    from trimtab_client import AsyncClient


def register(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command()(chat)


def chat(
    model: Annotated[
        str, typer.Argument(help="A deployment, a release (`assistant@3`) or a base model.")
    ] = "assistant",
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 to 2; without it the release's own.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens; without it the release's own.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Talk with a model. An empty line or Ctrl-D ends it; /new starts over."""
    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    given = {name: value for name, value in sampling.items() if value is not None}
    ask(lambda client: _talk(client, model, given), data)


async def _talk(client: AsyncClient, model: str, sampling: dict[str, Any]) -> None:
    from trimtab_client import ApiError

    messages: list[dict[str, str]] = []
    conversation = f"cli-{uuid.uuid4().hex[:12]}"
    while True:
        try:
            said = (await asyncio.to_thread(console.input, "[bold]you:[/bold] ")).strip()
        except EOFError:
            return
        if not said:
            return
        if said == "/new":
            messages, conversation = [], f"cli-{uuid.uuid4().hex[:12]}"
            continue
        messages.append({"role": "user", "content": said})
        answer, release = "", ""
        try:
            async for delta in client.chat.stream(
                model, messages, conversation=conversation, source="cli", **sampling
            ):
                if not release:
                    release = delta.release
                    console.print(f"[bold]{release}:[/bold] ", end="", highlight=False)
                console.print(delta.text, end="", highlight=False, markup=False, soft_wrap=True)
                answer += delta.text
        except ApiError as error:
            errors.print(f"[red]{escape(explain(error))}[/red]", highlight=False)
            messages.pop()
            continue
        console.print()
        messages.append({"role": "assistant", "content": answer})
