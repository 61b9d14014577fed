"""The list of conversations: HTML with a button per conversation, a menu for each, folders, and what was just deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gradio as gr

from feedback_ui import texts
from feedback_ui.html import ago, empty, esc, first_line

Row = Mapping[str, Any]

# `click` opens a conversation; `select` carries what is done with one: its id, the act and, where it was asked for, a text.
_ACTS = """
window.trimtab.conversation = (id, act, text) => trigger(act ? 'select' : 'click', { id, act: act || '', text: text ?? '' });
element.addEventListener('click', (event) => {
  const item = event.target.closest('[data-id]');
  if (!item) return;
  const { id, act, ask } = item.dataset;
  const done = (text) => window.trimtab.conversation(id, act, text);
  if (ask) window.trimtab.ask(item.dataset, done); else done();
});
"""

_PIN = '<svg class="tt-pin" viewBox="0 0 16 16" aria-hidden="true"><path d="M5 1h6l-1 5 3 3H9v6H7V9H3l3-3z"/></svg>'


def build_list() -> gr.HTML:
    """Lay out the list; `click` names a conversation to open, `select` what to do with one."""
    return gr.HTML(empty(texts.CHAT_HISTORY_EMPTY), js_on_load=_ACTS, elem_id="chat-history")


def conversations(
    rows: Sequence[Row],
    current: str | None,
    nothing: str = texts.CHAT_HISTORY_EMPTY,
    deleted: Sequence[Row] = (),
    undo: str = "",
    more: int = 0,
) -> str:
    """Render the conversations: pinned ones, folders, the others; then those that can still be restored.

    `nothing` says that there are none. `undo` is the id of the one that was just deleted: it is offered on top. `more` is
    how many to list for those further back; 0 where these are all.
    """
    pinned = [row for row in rows if row.get("pinned")]
    names = sorted({str(row["folder"]) for row in rows if row.get("folder")}, key=str.casefold)
    kept = [row for row in rows if not row.get("pinned")]
    parts = [_undo(row) for row in deleted if undo and row.get("id") == undo]
    parts.append(_entries(pinned, current, names))
    for name in names:
        inside = [row for row in kept if row.get("folder") == name]
        if inside:
            parts.append(
                f'<details class="tt-folder" data-key="folder {esc(name)}"{_open(inside, current)}><summary>{esc(name)} '
                f"<small>{len(inside)}</small></summary>{_entries(inside, current, names)}</details>"
            )
    parts.append(_entries([row for row in kept if not row.get("folder")], current, names))
    if not rows:
        parts.append(empty(nothing))
    if more:
        parts.append(
            f'<button type="button" class="tt-list-more" data-id="" data-act="more:{more}">{esc(texts.CHAT_MORE)}</button>'
        )
    rest = [row for row in deleted if row.get("id") != undo]
    if rest:
        entries = "".join(map(_deleted, rest))
        label = f"{esc(texts.CHAT_DELETED)} <small>{len(rest)}</small>"
        parts.append(
            f'<details class="tt-folder tt-deleted" data-key="deleted"><summary>{label}</summary>'
            f"<ul>{entries}</ul></details>"
        )
    return f'<div class="tt-list">{"".join(parts)}</div>'


def title_of(row: Row) -> str:
    """Return what a conversation is listed as: its name, else its first words, else its id."""
    return str(row.get("title") or row.get("first_message") or _first_words(row))


def _open(rows: Iterable[Row], current: str | None) -> str:
    return " open" if any(row.get("id") == current for row in rows) else ""


def _entries(rows: Sequence[Row], current: str | None, folders: Sequence[str]) -> str:
    if not rows:
        return ""
    items = "".join(_entry(row, current, folders) for row in rows)
    return f'<ul class="tt-conversations">{items}</ul>'


def _entry(row: Row, current: str | None, folders: Sequence[str]) -> str:
    ident = str(row.get("id", ""))
    mark = ' aria-current="true"' if ident == current else ""
    when = ago(row.get("updated_at") or row.get("created_at"))
    pin = _PIN if row.get("pinned") else ""
    title = first_line(title_of(row), 60)
    return (
        f'<li><button type="button" class="tt-conversation" data-id="{esc(ident)}"{mark}>'
        f'<span dir="auto">{pin}{title}</span><small>{when}</small></button>{_menu(row, ident, title, folders)}</li>'
    )


def _menu(row: Row, ident: str, title: str, folders: Sequence[str]) -> str:
    pinned = bool(row.get("pinned"))
    named = title_of(row) if row.get("named") else ""
    buttons = (
        _act(ident, "rename", texts.CHAT_RENAME, ask=texts.CHAT_RENAME_ASK, value=named),
        _act(ident, "unpin" if pinned else "pin", texts.CHAT_UNPIN if pinned else texts.CHAT_PIN),
        _act(
            ident,
            "folder",
            texts.CHAT_FOLDER,
            ask=texts.CHAT_FOLDER_ASK,
            value=str(row.get("folder") or ""),
            options="\n".join(folders),
        ),
        _act(ident, "share", texts.CHAT_LINK),
        _act(ident, "delete", texts.CHAT_DELETE),
    )
    label = f"{esc(texts.CHAT_MENU)} {title}"
    return (
        f'<details class="tt-menu-of"><summary aria-label="{label}" title="{esc(texts.CHAT_MENU_TITLE)}"></summary>'
        f"<div>{''.join(buttons)}</div></details>"
    )


def _act(ident: str, act: str, label: str, **data: str) -> str:
    more = "".join(f' data-{name}="{esc(value)}"' for name, value in data.items())
    return f'<button type="button" data-id="{esc(ident)}" data-act="{act}"{more}>{esc(label)}</button>'


def _undo(row: Row) -> str:
    said = texts.CHAT_DELETED_ONE.format(first_line(title_of(row), 40))
    return (
        f'<div class="tt-undo" role="status"><span>{said}</span>'
        f"{_act(str(row.get('id', '')), 'restore', texts.CHAT_UNDO)}</div>"
    )


def _deleted(row: Row) -> str:
    end = texts.CHAT_ERASED.format(ago(row.get("erased_at")))
    restore = _act(str(row.get("id", "")), "restore", texts.CHAT_RESTORE)
    return f"<li><span>{first_line(title_of(row), 60)}<small>{end}</small></span>{restore}</li>"


def _first_words(row: Row) -> str:
    for message in row.get("messages", ()):
        if message.get("role") == "user":
            return str(message.get("content", ""))
    return str(row.get("id", ""))
