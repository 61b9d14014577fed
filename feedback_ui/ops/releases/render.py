"""The Releases tab: releases, leaderboard, evaluations, lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import (
    ago,
    badge,
    card,
    code,
    empty,
    esc,
    facts,
    first_line,
    fold,
    number,
    percent,
    table,
)

_LANES = {"stable": "good", "canary": "accent"}


def releases(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render the table of releases, newest first."""
    if not rows:
        return card(texts.RELEASES, empty(texts.RELEASES_EMPTY))
    heads = ("Release", "Traffic", "Adapter", "System prompt", "Served = trained", "From", "Made")
    cells = [
        (
            f"<b>{esc(row.get('name'))}</b>",
            badge(row["lane"], _LANES.get(row["lane"], "quiet")) if row.get("lane") else "–",
            code(row["adapter"]) if row.get("adapter") else "base model",
            first_line(row["system_prompt"], 60) if row.get("system_prompt") else "–",
            _parity(row.get("parity")),
            esc(row.get("run") or row.get("created_by") or "–"),
            ago(row.get("created_at")),
        )
        for row in rows
    ]
    return card(texts.RELEASES, table(heads, cells, texts.RELEASES))


def _parity(parity: Mapping[str, Any] | None) -> str:
    if not parity:
        return "–"
    word = badge("equal", "good") if parity.get("ok") else badge("differs", "bad")
    mean = parity.get("mean_abs")
    cost = parity.get("cost") or {}
    slower = (
        f", a token takes {number(cost['ratio'], 2)} times as long" if cost.get("ratio") else ", cost unknown"
    )
    return f'{word} <small class="tt-subdued">{number(mean, 4)}{slower}</small>' if mean is not None else word


def leaderboard(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render the releases ranked from votes, each with its score and 95% interval on one common scale."""
    if not rows:
        return card(texts.LEADERBOARD, empty(texts.LEADERBOARD_EMPTY))
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    span = (high - low) or 1.0

    def bar(row: Mapping[str, Any]) -> str:
        left, width = (row["low"] - low) / span * 100, (row["high"] - row["low"]) / span * 100
        point = (row["score"] - low) / span * 100
        label = f"{number(row['score'], 0)}, between {number(row['low'], 0)} and {number(row['high'], 0)}"
        return (
            f'<div class="tt-interval" role="img" aria-label="{label}" title="{label}">'
            f'<i style="left:{left:.1f}%;width:{max(width, 0.5):.1f}%"></i><b style="left:{point:.1f}%"></b></div>'
        )

    groups = [row.get("group", 1) for row in rows]
    cells = [
        (
            number(groups[:place].count(row.get("group", 1))),
            f"<b>{esc(row.get('release'))}</b>"
            + (
                f' <small class="tt-subdued">{esc(texts.LEADERBOARD_GROUP.format(group=row["group"]))}</small>'
                if len(set(groups)) > 1
                else ""
            ),
            number(row.get("score"), 0),
            bar(row),
            number(row.get("wins")),
            number(row.get("ties")),
            number(row.get("losses")),
            number(row.get("votes")),
        )
        for place, row in enumerate(rows, 1)
    ]
    interval = f"95% interval, {number(low, 0)} to {number(high, 0)}"
    heads = ("Place", "Release", "Score", interval, "Won", "Tied", "Lost", "Votes")
    hint = f'<p class="tt-hint">{esc(texts.LEADERBOARD_HINT)}</p>'
    return card(texts.LEADERBOARD, table(heads, cells, texts.LEADERBOARD, numeric=(0, 2, 4, 5, 6, 7)) + hint)


def evaluations(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render the evaluations, newest first; each unfolds into its report."""
    if not rows:
        return card("Evaluations", empty(texts.EVALUATIONS_EMPTY))
    return card("Evaluations", "".join(_evaluation(row) for row in rows[:20]))


def _evaluation(row: Mapping[str, Any]) -> str:
    tone = {"done": "good", "failed": "bad"}.get(str(row.get("state")), "warn")
    against = f" against {esc(row['against'])}" if row.get("against") else ""
    error = f'<p class="tt-subdued">{esc(row["error"])}</p>' if row.get("error") else ""
    body = measures(row.get("report") or {})
    report = fold(f"eval-{row.get('id')}", "Report", _page(row) + body) if body else ""
    return (
        f'<article class="tt-evaluation"><header><span><b>{esc(row.get("release"))}</b>{against} '
        f'<span class="tt-subdued">· suite {esc(row.get("suite"))} · {ago(row.get("created_at"))}</span></span>'
        f"{badge(row.get('state'), tone)}</header>{error}{report}</article>"
    )


def _page(row: Mapping[str, Any]) -> str:
    """Return the link to the report as a page of its own, with the answers side by side and people's votes."""
    address = f"./api/evals/{esc(row.get('id'))}/report.html"
    return f'<p><a href="{address}" target="_blank" rel="noopener">{esc(texts.EVALUATION_PAGE)}</a></p>'


_UP = {
    "preference_accuracy",
    "preference_accuracy_per_token",
    "reward_accuracy",
    "reward_margin",
    "tokens_per_second",
}
_DOWN = {"loss", "latency_s", "first_token_s"}


def measures(report: Mapping[str, Any]) -> str:
    """Render a suite's report as a table: each measure of the release, of the other, and their difference.

    An estimate is `{value, low, high, n}`; a difference whose interval excludes 0 is coloured by whether it is good.
    """
    rows = [
        (
            esc(name.replace("_", " ")),
            _estimate(row.get("release")),
            _estimate(row.get("against")),
            _difference(name, row.get("difference")),
        )
        for name, row in (report.get("measures") or {}).items()
        if isinstance(row, dict)
    ]
    if not rows:
        return ""
    heads = (
        "Measure",
        str(report.get("release") or "Release"),
        str(report.get("against") or "–"),
        "Difference",
    )
    return table(heads, rows, "Report", numeric=(1, 2, 3))


def _estimate(value: Any) -> str:
    if not isinstance(value, dict) or value.get("value") is None:
        return "–"
    low, high = value.get("low"), value.get("high")
    if low is None or high is None:
        return number(value["value"])
    return f'{number(value["value"])} <small class="tt-subdued">{number(low)} to {number(high)}</small>'


def _difference(name: str, value: Any) -> str:
    shown = _estimate(value)
    low, high = (value.get("low"), value.get("high")) if shown != "–" else (None, None)
    # One row has an interval without width: that is no evidence.
    if low is None or high is None or low == high or low <= 0 <= high:
        return shown
    if name not in _UP | _DOWN:
        return shown
    good = (value["value"] > 0) == (name in _UP)
    return f'<span class="tt-mark-{"good" if good else "bad"}">{shown}</span>'


def lineage(tree: Mapping[str, Any] | None) -> str:
    """Render all that a release learned from."""
    if not tree:
        return empty(texts.LINEAGE_EMPTY)
    release, adapter = tree.get("release") or {}, tree.get("adapter") or {}
    run, snapshot = tree.get("run") or {}, tree.get("snapshot") or {}
    rows = [
        ("Release", f"<b>{esc(release.get('ref'))}</b>"),
        ("Adapter", code(adapter["id"]) if adapter.get("id") else "base model"),
        ("Run", esc(run.get("id") or "–")),
        ("Snapshot", code(snapshot["id"]) if snapshot.get("id") else "–"),
        (
            "Rows",
            f"{number(snapshot.get('train_rows'))} train, {number(snapshot.get('heldout_rows'))} held out",
        )
        if snapshot.get("id")
        else ("Rows", "–"),
        ("Pairs", number(tree.get("pairs", 0))),
        ("Demonstrations", number(tree.get("demonstrations", 0))),
        ("Prompts", number(tree.get("prompts", 0))),
        (
            "Went on from",
            " ".join(badge(row.get("ref")) for row in tree.get("ancestors") or ()) or "the base model",
        ),
    ]
    if parents := tree.get("blended_from"):
        shown = " ".join(f"{badge(row.get('ref'))} {row.get('weight'):g}" for row in parents)
        rows.append(("Combined from", shown))
    people = [(esc(row.get("name")), number(row.get("rows"))) for row in tree.get("raters") or ()]
    body = facts(rows)
    if decided := tree.get("decided_by"):
        cells = [
            (esc(row.get("kind")), number(row.get("rows")), percent(row.get("share"))) for row in decided
        ]
        body += table(("Decided by", "Rows", "Share of the weight"), cells, "Who decided", numeric=(1, 2))
    if people:
        body += table(("Person", "Rows"), people, "People it learned from", numeric=(1,))
    return body
