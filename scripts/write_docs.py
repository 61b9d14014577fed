"""Write the parts of `docs/` that are made from code: settings, commands, routes, recipe fields.

`--check` writes nothing and exits 1 when a page is stale.
"""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from trimtab.cli import app as cli
from trimtab.config.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `make docs` from the code; edit the code. -->\n\n"


def settings_page() -> str:
    """Return the page of settings: key, default, meaning, accepted values."""
    rows = ["# Settings", "", MADE.strip(), ""]
    rows += [
        "One TOML file, `trimtab.toml` in the working directory or `--config FILE`; environment variables override it",
        "(`TRIMTAB_SERVER__PORT=8000`). No setting is needed. An unknown or wrong key is an error that names it, its",
        "meaning and the accepted values.",
        "",
        "| key | default | meaning |",
        "| --- | --- | --- |",
    ]
    return "\n".join(rows + _rows(Settings, "")) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        inner, named = _section(field.annotation)
        if inner is not None:
            rows += _rows(inner, f"{prefix}{name}.{'NAME.' if named else ''}")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "" if field.is_required() else f"`{_toml(default)}`"
        meaning = field.description or ""
        if typing.get_origin(field.annotation) is typing.Literal:
            meaning += f" ({', '.join(str(value) for value in typing.get_args(field.annotation))})"
        rows.append(f"| `{prefix}{name}` | {shown} | {meaning} |")
    return rows


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    if typing.get_origin(annotation) is dict:
        inner, _ = _section(typing.get_args(annotation)[1])
        return inner, True
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return next((_section(a) for a in typing.get_args(annotation) if _section(a)[0]), (None, False))
    return None, False


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def cli_page() -> str:
    """Return the page of commands with their arguments and options."""
    parts = ["# Command line", "", MADE.strip(), ""]
    parts += [
        "`trimtab` is a client of the operations API where a platform is running: `TRIMTAB_URL` and `TRIMTAB_KEY`, or",
        "the data directory (`--data`, else the setting). Listings take `--json`.",
        "",
    ]
    group = typer.main.get_command(cli)
    parts += _commands(group, "trimtab")
    return "\n".join(parts).rstrip() + "\n"


def _commands(command: Any, path: str) -> list[str]:
    if hasattr(command, "commands"):
        return [
            line for name, inner in command.commands.items() for line in _commands(inner, f"{path} {name}")
        ]
    arguments, options = [], []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            arguments.append(
                f"{parameter.name.upper()}" if parameter.required else f"[{parameter.name.upper()}]"
            )
        elif parameter.name not in ("help", "install_completion", "show_completion"):
            default = parameter.default
            shown = "" if default in (None, False, "") or callable(default) else f" Default: {default}."
            options.append(f"  - `{', '.join(parameter.opts)}` {parameter.help or ''}{shown}".rstrip())
    lines = [f"- `{' '.join([path, *arguments])}`: {(command.help or '').splitlines()[0]}"]
    return lines + options


def http_page() -> str:
    """Return the page of the HTTP routes."""
    from trimtab.api import access
    from trimtab.app import api_router, openai_router

    rows = ["# HTTP", "", MADE.strip(), ""]
    rows += [
        "`/v1` speaks OpenAI's protocol (`models`, `chat/completions`, `responses`, `completions`) with OpenAI's errors,",
        "and Anthropic's (`messages`) with Anthropic's; a key may come as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
        "OpenAI's fine-tuning API is [a page of its own](fine-tuning-api.md).",
        "`/api` answers errors as RFC 9457 problem details; its OpenAPI page is `/api/docs`. `/healthz`, `/readyz`,",
        "`/metrics` need no key. Roles: `chat` < `rater` < `ops`.",
        "",
        *(Path(__file__).with_name("http_headers.md").read_text("utf-8").splitlines()),
        "",
        "## Routes",
        "",
        "| route | role | what it does |",
        "| --- | --- | --- |",
    ]
    roles = {access.chat_role: "chat", access.rater_role: "rater", access.ops_role: "ops"}
    for route in (*openai_router().routes, *api_router().routes):
        role = next((roles[d.call] for d in route.dependant.dependencies if d.call in roles), "")  # type: ignore[attr-defined]
        for method in sorted(route.methods):  # type: ignore[attr-defined]
            text = (route.endpoint.__doc__ or "").splitlines()[0]  # type: ignore[attr-defined]
            rows.append(f"| `{method} {route.path_format}` | {role} | {text} |")  # type: ignore[attr-defined]
    return "\n".join(rows) + "\n"


def training_page() -> str:
    """Return the page on training with a new table of recipe fields."""
    from align.recipe.recipe import reference

    begin, end = "from align/recipe/fields.py -->\n\n", "\n<!-- end of the recipe fields -->"
    before, _, rest = (DOCS / "training.md").read_text().partition(begin)
    return before + begin + reference() + end + rest.partition(end)[2]


PAGES = {"settings.md": settings_page, "cli.md": cli_page, "http.md": http_page, "training.md": training_page}


def main() -> int:
    """Write the pages, or check them."""
    stale = []
    for name, make in PAGES.items():
        page, path = make(), DOCS / name
        if not path.exists() or path.read_text() != page:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(page)
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
