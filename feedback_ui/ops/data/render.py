"""The Data tab: pairs, demonstrations, snapshots, raters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedback_ui import texts
from feedback_ui.html import (
    ago,
    badge,
    card,
    duration,
    empty,
    esc,
    facts,
    fold,
    number,
    percent,
    table,
)
from feedback_ui.ops.data import training_rows
from feedback_ui.ops.data.actions import Holdings


def pairs(held: Holdings) -> str:
    """Render the newest preference pairs."""
    if not held.pairs:
        return card(texts.DATA_PAIRS, empty(texts.DATA_PAIRS_EMPTY))
    listed = training_rows.listed(map(training_rows.pair, held.pairs), texts.DATA_PAIRS)
    return card(texts.DATA_PAIRS, _stats(held.pair_stats) + listed)


def demonstrations(held: Holdings) -> str:
    """Render the newest demonstrations."""
    if not held.demonstrations:
        return card(texts.DATA_DEMOS, empty(texts.DATA_DEMOS_EMPTY))
    listed = training_rows.listed(map(training_rows.demonstration, held.demonstrations), texts.DATA_DEMOS)
    return card(texts.DATA_DEMOS, _stats(held.demonstration_stats) + listed)


def _stats(stats: dict[str, Any]) -> str:
    found = [
        (str(name).replace("_", " ").capitalize(), number(value, 0))
        for name, value in stats.items()
        if name != "chosen_longer" and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if (longer := stats.get("chosen_longer")) is not None:
        # Raters who prefer length teach length: worth seeing before training, not after.
        tone = "warn" if abs(longer - 0.5) > 0.25 else "quiet"
        found.append((texts.DATA_CHOSEN_LONGER, badge(percent(longer), tone)))
    for name, value in stats.items():
        if isinstance(value, dict) and value and all(isinstance(v, int | float) for v in value.values()):
            text = ", ".join(f"{esc(k)} {number(v)}" for k, v in value.items())
            found.append((str(name).replace("_", " ").capitalize(), text))
    return facts(found) if found else ""


def snapshots(held: Holdings) -> str:
    """Render the frozen datasets, each unfolding into its data report."""
    if not held.snapshots:
        return card(texts.SNAPSHOTS, empty(texts.SNAPSHOTS_EMPTY))
    return card(texts.SNAPSHOTS, "".join(_snapshot(row) for row in held.snapshots[:20]))


def _snapshot(row: Mapping[str, Any]) -> str:
    ident = row.get("id") or row.get("hash")
    rows = f"{number(row.get('train_rows'))} train · {number(row.get('heldout_rows'))} held out"
    head = (
        f"<header><span><code>{esc(ident)}</code> <span class='tt-subdued'>· {esc(row.get('deployment'))} · "
        f"{esc(str(row.get('method', '')).upper())} · {ago(row.get('created_at'))}</span></span>{badge(rows)}</header>"
    )
    report = row.get("report") or {}
    return f'<article class="tt-evaluation">{head}{fold(f"snap-{ident}", "Data report", _report(report))}</article>'


def _report(report: Mapping[str, Any]) -> str:
    shown_elsewhere = {"languages", "agreement", "mean_weight"}
    rows = _stats({name: value for name, value in report.items() if name not in shown_elsewhere})
    more = (
        [("Mean weight", number(report["mean_weight"], 2))] if report.get("mean_weight") is not None else []
    )
    if languages := report.get("languages"):
        more.append(
            ("Languages", ", ".join(f"{esc(name)} {percent(share)}" for name, share in languages.items()))
        )
    if agreement := report.get("agreement"):
        more.append(("Agreement", _agreement(agreement)))
    rows += facts(more) if more else ""
    lengths = report.get("lengths")
    if isinstance(lengths, dict) and lengths:
        cells = [
            (esc(part), *(number(value.get(name), 0) for name in ("mean", "median", "p95")))
            for part, value in lengths.items()
        ]
        rows += table(("Characters", "Mean", "Median", "95%"), cells, "Lengths", numeric=(1, 2, 3))
    return rows


def _agreement(found: Mapping[str, Any]) -> str:
    if found.get("alpha") is None:
        return esc(texts.RATERS_NO_ALPHA)
    values = {name: number(found.get(name), 2) for name in ("alpha", "comparisons", "votes")}
    return esc(texts.RATERS_ALPHA.format(**values))


def raters(held: Holdings) -> str:
    """Render the reliability of each rater; nothing where the platform does not measure it."""
    if not held.raters:
        return ""
    cells = [
        (
            esc(row.get("name")),
            number(row.get("votes")),
            percent(row.get("agreement")),
            f"{number(row.get('gold_right', 0))} of {number(row.get('gold_total', 0))}",
            esc(duration(row.get("median_seconds"))),
            percent(row.get("share_a")),
            " ".join(badge(flag, "warn") for flag in row.get("flags") or ()) or "–",
        )
        for row in held.raters
    ]
    heads = ("Rater", "Votes", "Agreement", "Gold questions", "Median time", "Chose A", "Look at")
    hint = f'<p class="tt-hint">{_agreement(held.agreement)} {esc(texts.RATERS_HINT)}</p>'
    return card(texts.RATERS, table(heads, cells, texts.RATERS, numeric=(1, 2, 3, 4, 5)) + hint)
