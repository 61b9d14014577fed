"""The Access tab: users, API keys, usage, erasures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, empty, esc, notice, number, table


def users(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render the table of users."""
    if not rows:
        return card(texts.USERS, empty(texts.USERS_EMPTY))
    cells = [(esc(row["name"]), _roles(row), ago(row.get("created_at"))) for row in rows]
    return card(texts.USERS, table(("Name", "Roles", "Added"), cells, texts.USERS))


def keys(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render the table of keys, without their secrets."""
    if not rows:
        return card(texts.KEYS, empty(texts.KEYS_EMPTY))
    cells = [
        (
            esc(row["name"]),
            f"<code>{esc(row.get('prefix'))}…</code>",
            _roles(row),
            ago(row.get("created_at")),
            badge("revoked", "bad") if row.get("revoked_at") else badge("in use", "good"),
        )
        for row in rows
    ]
    return card(texts.KEYS, table(("Name", "Begins with", "Roles", "Made", "State"), cells, texts.KEYS))


def usage(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render what each user and key used this month, and what is left of their budgets."""
    if not rows:
        return card(texts.USAGE, empty(texts.USAGE_EMPTY))
    cells = [
        (
            esc(row["name"]),
            badge(row["kind"]),
            number(row["requests"]),
            number(row["prompt_tokens"] + row["completion_tokens"]),
            " ".join((*_left(row["today"], "today"), *_left(row["month"], "this month"))) or "–",
        )
        for row in rows
    ]
    heads = ("Name", "Kind", "Requests", "Tokens", "Budget left")
    return card(texts.USAGE, table(heads, cells, texts.USAGE, numeric=(2, 3)))


def _left(spent: Mapping[str, Any], when: str) -> Iterator[str]:
    """Render what may still be used, a badge for each budget; one that is used up stands out."""
    for what in ("requests", "tokens"):
        if (budget := spent[f"{what}_budget"]) is not None:
            left = max(0, budget - spent[what])
            yield badge(f"{left:,} {what} {when}", "quiet" if left else "bad")


def _roles(row: Mapping[str, Any]) -> str:
    return " ".join(badge(role) for role in row.get("roles") or ())


def secret(key: Mapping[str, Any]) -> str:
    """Render a new key's secret, once, and what the platform says of it."""
    shown = notice(texts.KEY_SECRET, "good", f'<code class="tt-secret">{esc(key.get("secret"))}</code>')
    return shown + (notice(str(key["notice"]), "warn") if key.get("notice") else "")


def erased(done: Mapping[str, Any]) -> str:
    """Render what an erasure took away (or would), which releases had learned from it, and which runs were made of it."""
    planned = bool(done.get("dry_run"))
    stopped = texts.ERASE_WOULD_STOP if planned else texts.ERASE_STOPPED
    removed = _amounts(done.get("removed"))
    learned = " ".join(badge(row.get("ref"), "warn") for row in done.get("releases") or ())
    more = f"<p>{esc(texts.ERASE_LEARNED)} {learned}</p>" if learned else ""
    if others := _amounts(done.get("of_others")):
        more = f"<p>{esc(texts.ERASE_OTHERS.format(counts=others))}</p>{more}"
    for part, said in (("runs", texts.ERASE_RUNS), ("stopped", stopped)):
        if runs := " ".join(badge(run) for run in done.get(part) or ()):
            more += f"<p>{esc(said)} {runs}</p>"
    said = texts.ERASE_WOULD if planned else texts.ERASE_DONE
    tone = "warn" if more or planned else "good"
    return notice(said.format(removed=removed or texts.ERASE_NOTHING), tone, more)


def _amounts(counts: dict[str, int] | None) -> str:
    return ", ".join(f"{count} {noun}" for noun, count in (counts or {}).items() if count)


def flagged(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render the releases that learned from rows erased since; nothing where there are none."""
    if not rows:
        return ""
    return notice(texts.ERASE_FLAGGED, "warn", " ".join(badge(row.get("ref"), "warn") for row in rows))
