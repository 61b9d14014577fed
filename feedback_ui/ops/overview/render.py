"""The Overview tab: figures, engines, deployments, schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, empty, esc, facts, fold, number, percent
from feedback_ui.ops.overview.evidence import Drawn, evidence

_ENGINE_TONES = {
    "ready": "good",
    "starting": "warn",
    "preparing": "warn",
    "sleeping": "warn",
    "failed": "bad",
}


def tiles(status: dict[str, Any]) -> str:
    """Render the figures that say whether it is time to train."""
    pairs, demos = status.get("pairs", {}), status.get("demonstrations", {})
    comparisons = status.get("comparisons", {})
    active = status.get("active_runs") or ()
    canaries = [
        f"{row['canary']} at {percent(row.get('weight') or 0)}"
        for row in status.get("deployments") or ()
        if row.get("canary")
    ]
    shown = (
        ("New pairs", number(pairs.get("new")), "since the last run"),
        ("Preference pairs", number(pairs.get("total")), "in the store"),
        ("Demonstrations", number(demos.get("total")), "in the store"),
        (
            "Comparisons waiting",
            number(comparisons.get("open", 0)),
            f"{number(comparisons.get('decided', 0))} decided",
        ),
        ("Runs under way", number(len(active)), ", ".join(map(str, active)) or "none"),
        ("Canaries on trial", number(len(canaries)), ", ".join(canaries) or "none"),
        _next_run(status.get("schedules") or ()),
    )
    return '<div class="tt-tiles">' + "".join(_tile(*tile) for tile in shown) + "</div>"


def _next_run(plans: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """Return the tile of the schedule that is due first: when, and how many rows wait for it."""
    if not plans:
        return texts.NEXT_RUN, "–", texts.NEXT_RUN_OFF
    plan = min(plans, key=lambda row: str(row.get("next_at") or "~"))
    every, have = plan.get("every_pairs"), number(plan.get("new_rows", 0))
    said = texts.NEXT_RUN_ROWS if every else texts.NEXT_RUN_WAITING
    when = (
        ago(plan["next_at"])
        if plan.get("next_at")
        else esc(texts.NEXT_RUN_AT_ROWS.format(every=number(every)))
    )
    return texts.NEXT_RUN, when, said.format(have=have, every=number(every))


def _tile(label: str, value: str, note: str) -> str:
    return (
        f'<div class="tt-tile"><span>{esc(label)}</span><b>{value}</b>'
        f'<small title="{esc(note)}">{esc(note)}</small></div>'
    )


def engines(rows: list[dict[str, Any]]) -> str:
    """Render one block per engine: state, process, adapters and the end of its log."""
    if not rows:
        return card(texts.ENGINES, empty(texts.ENGINES_EMPTY))
    return card(texts.ENGINES, "".join(_engine(row) for row in rows))


def cards(rows: list[dict[str, Any]]) -> str:
    """Render one block per graphics card: who holds its memory and what is left; nothing where there is none."""
    return card(texts.CARDS, "".join(_card(row) for row in rows)) if rows else ""


def _card(row: dict[str, Any]) -> str:
    known = [
        (
            str(holder.get("name")),
            ("" if holder.get("measured") else texts.ABOUT) + _gigabytes(holder.get("bytes")),
        )
        for holder in row.get("holders") or ()
    ]
    known.append((texts.FREE, f"{_gigabytes(row.get('free'))} of {_gigabytes(row.get('total'))}"))
    return (
        f'<article class="tt-engine"><header><b>{esc(row.get("index"))} · {esc(row.get("name"))}</b></header>'
        f"{facts(known)}</article>"
    )


def _gigabytes(size: Any) -> str:
    return f"{float(size or 0) / 1e9:,.1f} GB"


def _engine(row: dict[str, Any]) -> str:
    state = str(row.get("state", ""))
    adapters = row.get("adapters") or ()
    known = [
        ("Base model", esc(row.get("base"))),
        ("Process", f"pid {esc(row.get('pid'))}" if row.get("pid") else "–"),
        ("Up since", ago(row["started_at"])) if row.get("started_at") else None,
        ("Restarts", number(row.get("restarts", 0))),
        ("Adapters", " ".join(badge(name) for name in adapters) or "none loaded"),
    ]
    detail = f'<p class="tt-subdued">{esc(row.get("detail"))}</p>' if row.get("detail") else ""
    log = "\n".join(map(str, row.get("log_tail") or ()))
    tail = (
        fold(f"log-{row.get('name')}", texts.LOG_TAIL, f'<pre class="tt-log-tail">{esc(log)}</pre>')
        if log
        else ""
    )
    return (
        f'<article class="tt-engine"><header><b>{esc(row.get("name"))}</b>'
        f"{badge(state, _ENGINE_TONES.get(state, 'quiet'))}</header>{detail}{facts(f for f in known if f)}{tail}</article>"
    )


def deployments(rows: list[dict[str, Any]], drawn: Drawn | None = None) -> str:
    """Render one block per deployment: which release answers which share of the traffic, and what votes say of a canary."""
    if not rows:
        return card(texts.DEPLOYMENTS, empty(texts.DEPLOYMENTS_EMPTY))
    return card(texts.DEPLOYMENTS, "".join(_deployment(row, drawn or {}) for row in rows))


def _deployment(row: dict[str, Any], drawn: Drawn) -> str:
    canary, weight = row.get("canary"), float(row.get("weight") or 0) if row.get("canary") else 0.0
    parts = f'<i class="tt-share-stable" style="width:{(1 - weight) * 100:.1f}%"></i>'
    parts += f'<i class="tt-share-canary" style="width:{weight * 100:.1f}%"></i>' if canary else ""
    names = f'<span><i class="tt-dot tt-share-stable"></i>{esc(row.get("stable"))} · stable · {percent(1 - weight)}</span>'
    if canary:
        names += (
            f'<span><i class="tt-dot tt-share-canary"></i>{esc(canary)} · canary · {percent(weight)}</span>'
        )
    plot = evidence(drawn.get(str(row.get("name")), (0, "", ()))[2])
    back = f"Rolls back to {esc(row.get('previous'))}" if row.get("previous") else "Nothing to roll back to"
    if canary:
        back = "Rolling back ends the canary"
    return (
        f'<article class="tt-deployment"><header><b>{esc(row.get("name"))}</b>'
        f'<small class="tt-subdued">{esc(row.get("base"))} · changed {ago(row.get("updated_at"))}</small></header>'
        f'<div class="tt-share" role="img" aria-label="stable {percent(1 - weight)}, canary {percent(weight)}">{parts}</div>'
        f'<div class="tt-legend">{names}</div>{plot}{_votes(row.get("votes"))}'
        f'<div><small class="tt-subdued">{back}</small></div></article>'
    )


def _votes(votes: dict[str, Any] | None) -> str:
    """Render what raters say of a canary beside stable, and how far that is from deciding it."""
    if not votes:
        return ""
    wins, losses = int(votes.get("wins", 0)), int(votes.get("losses", 0))
    said = f"Votes: {number(wins)} for the canary, {number(losses)} for stable, {number(votes.get('ties', 0))} for neither."
    lines = [said, _interval(votes), _evidence(votes, wins + losses), _trial(votes)]
    return "".join(f'<div><small class="tt-subdued">{esc(line)}</small></div>' for line in lines if line)


def _interval(votes: dict[str, Any]) -> str:
    """Render the canary's mean score with the interval that is valid at any time."""
    if votes.get("win_rate") is None:
        return ""
    return texts.VOTES_INTERVAL.format(
        rate=percent(votes["win_rate"]),
        low=percent(votes.get("low", 0)),
        high=percent(votes.get("high", 1)),
        blocks=number(votes.get("blocks", 0)),
        unit=texts.VOTES_UNITS.get(str(votes.get("weighed")), ""),
    )


def _evidence(votes: dict[str, Any], sided: int) -> str:
    needed = votes.get("needed")
    if not needed or votes.get("ended"):
        return texts.VOTES_ENDED if needed else texts.VOTES_OPERATOR
    rest = int(votes.get("min_votes", 0)) - sided
    if rest > 0:
        return texts.VOTES_MORE.format(rest=rest)
    return texts.VOTES_EVIDENCE.format(
        better=float(votes.get("evidence_for", 0)),
        worse=float(votes.get("evidence_against", 0)),
        needed=needed,
        against=votes.get("needed_against") or needed,
    )


def _trial(votes: dict[str, Any]) -> str:
    """Render what votes do not count, the raters that the verdict depends on, and when the trial ends."""
    parts = []
    if votes.get("others"):
        parts.append(texts.VOTES_OTHERS.format(others=number(votes["others"])))
    if votes.get("raters_left_out"):
        parts.append(texts.VOTES_LEFT_OUT.format(raters=number(votes["raters_left_out"])))
    parts += [texts.VOTES_WITHOUT.format(rater=name) for name in votes.get("undecided_without") or ()]
    if votes.get("ends_at") and not votes.get("ended"):
        parts.append(
            texts.VOTES_ENDS.format(votes=number(votes.get("max_votes")), date=str(votes["ends_at"])[:10])
        )
    return " ".join(parts)


def schedules(plans: Sequence[dict[str, Any]]) -> str:
    """Render when retraining starts by itself: a list of facts per schedule."""
    if not plans:
        return card(texts.SCHEDULE, f'<p class="tt-subdued">{esc(texts.SCHEDULE_OFF)}</p>', badge("off"))
    return card(texts.SCHEDULE, "".join(map(_schedule, plans)), badge("on", "good"))


def _schedule(plan: dict[str, Any]) -> str:
    every = plan.get("every_pairs")
    new = number(plan.get("new_rows", 0))
    method = f"{str(plan.get('method', '')).upper()}, {'QLoRA' if plan.get('qlora') else 'LoRA'}"
    rows = [
        ("Deployment", esc(plan.get("deployment"))),
        ("Method", esc(method)),
        ("Recipe", esc(plan.get("recipe") or "–")),
        ("Then", esc(plan.get("rollout"))),
        ("Cron", f"<code>{esc(plan.get('cron'))}</code>" if plan.get("cron") else "–"),
        ("Next at", ago(plan.get("next_at")) if plan.get("next_at") else "–"),
        (f"New {plan.get('rows', '')}", f"{new} of {number(every)}" if every else new),
    ]
    return facts(rows)


def about(status: dict[str, Any]) -> str:
    """Render version, process and mode of the platform."""
    rows = [
        ("Version", esc(status.get("version"))),
        ("Mode", esc(status.get("mode"))),
        ("Process", f"pid {esc(status.get('pid'))}"),
        ("Started", ago(status.get("started_at"))),
        ("Address", esc(status.get("url"))),
    ]
    return card("Platform", facts(rows))
