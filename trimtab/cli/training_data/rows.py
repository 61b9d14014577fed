"""`trimtab rows …`: search the training data, read a row, leave rows out or approve them, kept searches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, fail, show
from trimtab.cli.training_data.data import FILTERS as EXPORT_FILTERS

if TYPE_CHECKING:
    from trimtab_client.values import Kind

app = typer.Typer(
    help="Curate the training data: search, read, leave out, approve. KIND is pairs, demonstrations or likes.",
    no_args_is_help=True,
)

KindOf = Annotated[str, typer.Argument(metavar="KIND", help="pairs, demonstrations or likes.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of rows.")]
Why = Annotated[str, typer.Option(help="Why; kept with the row and in the audit log.")]
Matching = Annotated[
    bool, typer.Option("--matching", help="All rows that the filters find, in the place of ids.")
]
Name = Annotated[str, typer.Argument(help="Name of the kept search.")]

FILTERS: dict[str, Any] = {
    "text": Annotated[str | None, typer.Option(help="Every word, in any case, in prompt or response.")],
    "state": Annotated[str | None, typer.Option(help="excluded, approved or unreviewed.")],
    "source": Annotated[str | None, typer.Option(help="Such as vote, rewrite or an import's.")],
    "language": Annotated[str | None, typer.Option(help="ISO 639-1 code of the prompt's last message.")],
    "min_chars": Annotated[int | None, typer.Option(min=0, help="Least characters of the response.")],
    "max_chars": Annotated[int | None, typer.Option(min=0, help="Most characters of the response.")],
    "max_agreement": Annotated[
        float | None, typer.Option(help="Max margin between the votes for and against, 0 to 1.")
    ],
    **EXPORT_FILTERS,
}
"""Options that rows are searched by, by the name of the filter."""


def _with_filters(function: Callable[..., None], **options: Any) -> Callable[..., None]:
    """Give a function that takes `where` an option for each filter; `options` are its own, with their defaults."""

    def command(**values: Any) -> None:
        where = {name: _plain(values.pop(name)) for name in FILTERS}
        function(**values, where={name: value for name, value in where.items() if value is not None})

    annotated = {name: option for name, (option, _) in options.items()} | FILTERS
    defaults = {name: default for name, (_, default) in options.items()}
    command.__signature__ = Signature(  # type: ignore[attr-defined]  # what typer reads the options from
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=option, default=defaults.get(name))
            for name, option in annotated.items()
        ]
    )
    command.__annotations__ = annotated
    return command


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value


def _kind(given: str) -> Kind:
    if given not in ("pairs", "demonstrations", "likes"):
        fail(f"KIND is {given!r}; accepted: pairs, demonstrations, likes", 2)
    kind: Kind = given  # type: ignore[assignment]  # checked above
    return kind


def _list(kind: str, limit: int, after: str | None, as_json: bool, data: Any, where: dict[str, Any]) -> None:
    noun = _kind(kind)
    found = ask(lambda client: client.data.rows(noun, limit=limit, after=after, **where), data)
    if as_json:
        show(found, True)
        return
    rows = [
        {
            "id": row["id"],
            "said": (row["prompt"] or [{"content": ""}])[-1]["content"][:60],
            "state": (row["review"] or {}).get("state", "–"),
            "source": row["source"],
            "people": ", ".join(row["people"]),
            "at": row["created_at"],
        }
        for row in found["rows"]
    ]
    columns = {name: name for name in ("id", "said", "state", "source", "people", "at")}
    show(rows, False, columns)
    if found["next"]:
        console.print(f"more: --after {found['next']}", highlight=False)


app.command("list", help="Search rows, newest first.")(
    _with_filters(
        _list,
        kind=(KindOf, Parameter.empty),
        limit=(Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")], 25),
        after=(Annotated[str | None, typer.Option(help="Id of the last row of the page before.")], None),
        as_json=(AsJson, False),
        data=(DataOption, None),
    )
)


@app.command("show")
def show_row(
    kind: KindOf,
    ident: Annotated[str, typer.Argument(metavar="ID")],
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Show a row with its lineage: who is behind it, snapshots, releases that learned from it, reviews."""
    noun = _kind(kind)
    show(ask(lambda client: client.data.row(noun, ident), data), as_json)


def _register_review(name: str, state: Literal["excluded", "approved"] | None, summary: str) -> None:
    """Add the command that puts rows into a state."""

    def review(
        kind: str,
        ids: list[str] | None,
        reason: str,
        matching: bool,
        as_json: bool,
        data: Any,
        where: dict[str, Any],
    ) -> None:
        if bool(ids) == matching or (where and not matching):
            fail("say which rows: either ids, or --matching with filters", 2)
        which = {"filters": where} if matching else {"ids": ids}
        noun = _kind(kind)
        done = ask(lambda client: client.data.review(noun, state, reason, **which), data)
        if as_json:
            show(done, True)
        else:
            console.print(f"{done['changed']} rows changed", highlight=False)

    app.command(name, help=summary)(
        _with_filters(
            review,
            kind=(KindOf, Parameter.empty),
            ids=(Ids, None),
            reason=(Why, Parameter.empty),
            matching=(Matching, False),
            as_json=(AsJson, False),
            data=(DataOption, None),
        )
    )


_register_review("exclude", "excluded", "Leave rows out of later training sets and exports.")
_register_review("approve", "approved", "Mark rows as looked at and good.")
_register_review("restore", None, "Undo an exclusion or an approval.")


def _report(kind: str, as_json: bool, data: Any, where: dict[str, Any]) -> None:
    noun = _kind(kind)
    show(ask(lambda client: client.data.row_report(noun, **where), data), as_json)


app.command("report", help="Count rows by length, source, person, agreement and review.")(
    _with_filters(_report, kind=(KindOf, Parameter.empty), as_json=(AsJson, False), data=(DataOption, None))
)


@app.command("views")
def views(as_json: AsJson = False, data: DataOption = None) -> None:
    """Show the searches that are kept under a name."""
    rows = ask(lambda client: client.data.views(), data)
    show(rows, as_json, {"name": "name", "noun": "rows", "filters": "filters", "created_by": "by"})


def _save(name: str, kind: str, data: Any, where: dict[str, Any]) -> None:
    noun = _kind(kind)
    ask(lambda client: client.data.save_view(name, noun, where), data)
    console.print(f"{name} is kept", highlight=False, markup=False)


app.command("save-view", help="Keep a search under a name.")(
    _with_filters(
        _save, name=(Name, Parameter.empty), kind=(KindOf, Parameter.empty), data=(DataOption, None)
    )
)


@app.command("remove-view")
def remove_view(name: Name, data: DataOption = None) -> None:
    """Delete a kept search."""
    ask(lambda client: client.data.remove_view(name), data)
    console.print(f"{name} is gone", highlight=False, markup=False)
