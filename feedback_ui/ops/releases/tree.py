"""The Releases tab: releases as a tree, and two of them beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, empty, esc, table

_LANES = {"stable": "good", "canary": "accent"}


def tree(branches: Sequence[Mapping[str, Any]], releases: Sequence[Mapping[str, Any]]) -> str:
    """Render each release below the one that it was made from; one with several stands below the first and names all."""
    if not branches:
        return card(texts.TREE, empty(texts.RELEASES_EMPTY))
    known = {str(row.get("name")): row for row in releases}
    there = {str(row.get("release")) for row in branches}
    below: dict[str, list[Mapping[str, Any]]] = {}
    for row in branches:
        parent = next((name for name in row.get("parents") or () if name in there), "")
        below.setdefault(parent, []).append(row)
    return card(texts.TREE, f'<div class="tt-tree">{_level("", below, known)}</div>')


def _level(
    parent: str, below: dict[str, list[Mapping[str, Any]]], known: Mapping[str, Mapping[str, Any]]
) -> str:
    """Render what stands below a release; a chain of single releases stays on one level."""
    items = []
    for row in below.pop(parent, ()):
        line = [row]
        while len(below.get(str(line[-1]["release"]), ())) == 1:
            line += below.pop(str(line[-1]["release"]))
        inner = _level(str(line[-1]["release"]), below, known)
        items += [f"<li>{_branch(one, known)}{inner if one is line[-1] else ''}</li>" for one in line]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _branch(row: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> str:
    release = known.get(str(row.get("release"))) or {}
    lane = badge(release["lane"], _LANES.get(release["lane"], "quiet")) if release.get("lane") else ""
    parents = ", ".join(map(str, row.get("parents") or ()))
    made = texts.TREE_MADE.get(str(row.get("made_by")), "{parents}").format(parents=parents)
    if not parents and row.get("made_by") == "training":
        made = texts.TREE_TRAINED_BASE
    return (
        f"<b>{esc(row.get('release'))}</b> {lane} "
        f'<small class="tt-subdued">{esc(made)} · {ago(release.get("created_at"))}</small>'
    )


def difference(found: Mapping[str, Any] | None) -> str:
    """Render what changes from one release to another."""
    if not found:
        return empty(texts.DIFF_EMPTY)
    fields, prompt = found.get("fields") or (), found.get("prompt") or ()
    if not fields and not prompt:
        return empty(texts.DIFF_NONE)
    heads = (texts.DIFF_FIELD, str(found.get("against")), str(found.get("release")))
    cells = [
        (f"<code>{esc(row.get('name'))}</code>", _value(row.get("before")), _value(row.get("after")))
        for row in fields
    ]
    shown = table(heads, cells, texts.DIFF) if cells else ""
    if prompt:
        lines = "".join(map(_line, map(str, prompt)))
        shown += f'<h3>{esc(texts.DIFF_PROMPT)}</h3><div class="tt-diff">{lines}</div>'
    return shown


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return esc(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def _line(line: str) -> str:
    tag = {"-": "del", "+": "ins"}.get(line[:1], "span")
    return f"<{tag}>{esc(line)}</{tag}>"
