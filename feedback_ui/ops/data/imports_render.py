"""What the Data tab shows of an import: how far it is, and what became of the rows."""

from __future__ import annotations

from typing import Any

from common.import_rules import RULES
from feedback_ui import texts
from feedback_ui.html import esc, notice, number, percent, table
from feedback_ui.ops.data.imports_actions import Import

SHOWN = 50
"""Refused rows that the page shows; the file has all."""


def imported(now: Import) -> str:
    """Render an import's progress; after its end its counts, where the file broke off, and the first rejected rows."""
    if now.result is not None:
        return _done(now.result)
    if now.stopped:
        return notice(_stopped(now), "warn")
    if now.progress is None:
        return notice(texts.DATA_IMPORT_SENDING, "accent tt-busy")
    return _under_way(now.progress)


def _under_way(progress: dict[str, Any]) -> str:
    if progress["waiting"]:
        return notice(texts.DATA_IMPORT_WAITING, "accent tt-busy")
    share = progress["bytes_done"] / max(1, progress["bytes_total"])
    doing = texts.DATA_IMPORT_ENDING if share >= 1 else texts.DATA_IMPORT_READING
    bar = (
        f'<div class="tt-progress" role="progressbar" aria-label="{esc(texts.DATA_IMPORT)}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share * 100:.0f}"><i style="width:{share * 100:.1f}%"></i></div>'
        f'<div class="tt-progress-text"><span>{number(progress["rows"])} rows</span>'
        f"<span>{percent(share)} of the file</span></div>"
    )
    return notice(f"{doing}: {_counts(progress, progress['rejected'])}.", "accent tt-busy", bar)


def _done(result: dict[str, Any]) -> str:
    refused, taken = result["rejected_count"], result["accepted"] + result["duplicates"]
    said = f"{_counts(result, refused)} ({result['format']} rows, {result['container']})."
    if result["dry_run"]:
        said = f"{texts.DATA_IMPORT_TRIED} {said}"
    more = ""
    if result["broke_off"]:
        more += f"<p>{esc(texts.DATA_IMPORT_BROKE_OFF.format(where=result['broke_off']))}</p>"
    more += _read(result)
    if rows := result["rejected"][:SHOWN]:
        cells = [(number(row["row"]), esc(row["why"])) for row in rows]
        more += table(("Row", "Why it was refused"), cells, "Refused rows", numeric=(0,))
    if refused > len(rows):
        more += f'<p class="tt-hint">{esc(texts.DATA_IMPORT_FIRST.format(shown=len(rows), all=number(refused)))}</p>'
    tone = "bad" if not taken else "warn" if refused or result["broke_off"] else "good"
    return notice(said, tone, more)


def _read(result: dict[str, Any]) -> str:
    """Render the unused columns and the rules that changed how rows were read."""
    unused, rules = result.get("unused_columns") or {}, result.get("rules") or {}
    said = ""
    if unused:
        cells = [(esc(column), number(rows)) for column, rows in list(unused.items())[:SHOWN]]
        said += table(("Column that was not used", "Rows"), cells, "Columns that were not used", numeric=(1,))
    if rules:
        cells = [(esc(RULES.get(rule, rule)), number(rows)) for rule, rows in rules.items()]
        said += table(
            ("How rows were read", "Rows"), cells, "Rules that changed how rows were read", numeric=(1,)
        )
    return said


def _stopped(now: Import) -> str:
    if now.dry_run or now.progress is None or not now.progress["accepted"]:
        return texts.DATA_IMPORT_STOPPED_EMPTY
    return texts.DATA_IMPORT_STOPPED.format(rows=number(now.progress["accepted"]))


def _counts(counts: dict[str, Any], refused: int) -> str:
    return f"{number(counts['accepted'])} accepted, {number(counts['duplicates'])} known already, {number(refused)} refused"
