"""The Curate tab: rows with what was decided about them, one row's lineage, and the data report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, code, empty, esc, facts, number, percent, table
from feedback_ui.ops.data import training_rows
from feedback_ui.plots import Bar, bars, paired

_LABELS = {
    "chosen": (texts.DATA_CHOSEN, "good"),
    "rejected": (texts.DATA_REJECTED, "bad"),
    "completion": (texts.DATA_COMPLETION, "good"),
}


def rows(page: Mapping[str, Any]) -> str:
    """Render a page of rows, each with a box to choose it by."""
    found = page.get("rows") or ()
    if not found:
        return card(texts.CURATE_ROWS, empty(texts.CURATE_EMPTY, texts.CURATE_EMPTY_TITLE))
    count = (
        texts.CURATE_COUNT_OPEN.format(shown=number(len(found)))
        if page.get("total") is None
        else texts.CURATE_COUNT.format(shown=number(len(found)), total=number(page["total"]))
    )
    every = f'<label class="tt-pick-all"><input type="checkbox" data-tt="choose-all">{esc(texts.CURATE_CHOOSE_ALL)}</label>'
    items = "".join(f"<li>{_row(row)}</li>" for row in found)
    listed = f'<ul class="tt-rows" aria-label="{esc(texts.CURATE_ROWS)}">{items}</ul>'
    return card(texts.CURATE_ROWS, every + listed, badge(count))


def _row(row: Mapping[str, Any]) -> str:
    responses = [(*_label(row, part), said) for part, said in (row.get("responses") or {}).items()]
    ident = esc(row.get("id"))
    below = f' <button type="button" class="tt-link" data-id="{ident}">{esc(texts.CURATE_LINEAGE)}</button>'
    box = f'<input type="checkbox" value="{ident}" aria-label="{esc(texts.CURATE_CHOOSE.format(id=row.get("id")))}">'
    return f'<div class="tt-picked">{box}{training_rows.whole(row, responses, _facts(row), below)}</div>'


def _label(row: Mapping[str, Any], part: str) -> tuple[str, str]:
    if row.get("liked") is not None:
        return (texts.CURATE_LIKED, "good") if row["liked"] else (texts.CURATE_DISLIKED, "bad")
    return _LABELS.get(part, (part, "good"))


def _facts(row: Mapping[str, Any]) -> list[str]:
    review = row.get("review") or {}
    shown = []
    if state := review.get("state"):
        shown.append(badge(f"{state}: {review.get('reason')}", texts.CURATE_STATE_TONES.get(state, "quiet")))
    shown += [badge(tag) for tag in row.get("tags") or ()]
    if people := row.get("people"):
        shown.append(f"<span>{esc(', '.join(map(str, people)))}</span>")
    return shown


def lineage(row: Mapping[str, Any]) -> str:
    """Render what is behind a row, and what it went into."""
    imported = row.get("imported")
    known = [
        (
            texts.CURATE_IMPORTED,
            esc(
                texts.CURATE_IMPORTED_FROM.format(source=imported.get("source"), by=imported.get("by") or "–")
            )
            + f" {ago(imported.get('at'))}"
            if imported
            else texts.CURATE_NONE,
        ),
        (
            texts.CURATE_SNAPSHOTS,
            " ".join(f"{code(one.get('id'))} {esc(one.get('split'))}" for one in row.get("snapshots") or ())
            or texts.CURATE_NONE,
        ),
        (texts.CURATE_RELEASES, " ".join(map(badge, row.get("releases") or ())) or texts.CURATE_NONE),
    ]
    body = facts(known)
    if evidence := row.get("evidence"):
        cells = [
            (
                badge(one.get("kind")),
                esc(one.get("person") or "–"),
                esc(one.get("choice") or "–"),
                esc(one.get("release") or "–"),
                ago(one.get("at")),
            )
            for one in evidence
        ]
        body += table(texts.CURATE_EVIDENCE_HEADS, cells, texts.CURATE_LINEAGE)
    if history := row.get("history"):
        reviews = [
            (
                ago(one.get("at")),
                esc(one.get("actor") or "platform"),
                badge(one.get("action")),
                esc(one.get("reason")),
            )
            for one in history
        ]
        body += table(texts.CURATE_HISTORY_HEADS, reviews, texts.CURATE_HISTORY)
    return card(texts.CURATE_LINEAGE_TITLE.format(id=row.get("id")), body)


def report(found: Mapping[str, Any]) -> str:
    """Render the data report as plots."""
    parts = []
    edges = [int(edge) for edge in found.get("edges") or ()]
    bins = [f"{low:,}–{high - 1:,}" for low, high in pairwise(edges)]
    bins += [f"{edges[-1]:,}+"] if edges else []
    lengths = found.get("lengths") or {}
    responses = [
        (texts.CURATE_PARTS.get(part, part), values) for part, values in lengths.items() if part != "prompt"
    ]
    if responses:
        longer = found.get("chosen_longer")
        said = texts.CURATE_LONGER.format(share=percent(longer)) if longer is not None else ""
        parts.append((texts.CURATE_LENGTHS, paired(bins, responses, texts.CURATE_LENGTHS) + _hint(said)))
    if "prompt" in lengths:
        title = f"{texts.CURATE_LENGTHS}: {texts.CURATE_PARTS['prompt']}"
        parts.append((title, bars(map(_bar, bins, lengths["prompt"]), title)))
    if agreement := found.get("agreement"):
        tenths = [f"{place * 10}–{place * 10 + 10}%" for place in range(len(agreement))]
        parts.append((texts.CURATE_AGREEMENT, bars(map(_bar, tenths, agreement), texts.CURATE_AGREEMENT)))
    for title, name in (
        (texts.CURATE_SOURCES, "sources"),
        (texts.CURATE_PEOPLE, "people"),
        (texts.CURATE_STATES_PLOT, "states"),
    ):
        if counted := found.get(name):
            parts.append((title, _counted(counted, title)))
    if snapshot := found.get("snapshot"):
        title = texts.CURATE_LEFT_OUT.format(snapshot=snapshot)
        left_out = _counted(found.get("left_out") or (), title)
        parts.append((title, left_out or _hint(texts.CURATE_LEFT_OUT_NONE)))
    drawn = "".join(f"<section><h3>{esc(title)}</h3>{body}</section>" for title, body in parts)
    return f'<div class="tt-plots-grid">{drawn}</div>'


def _hint(said: str) -> str:
    return f'<p class="tt-hint">{esc(said)}</p>' if said else ""


def _bar(label: str, rows: int) -> Bar:
    return Bar(label, rows, number(rows))


def _counted(counted: Sequence[Mapping[str, Any]], title: str) -> str:
    return bars([_bar(str(row.get("name")), int(row.get("rows") or 0)) for row in counted], title)
