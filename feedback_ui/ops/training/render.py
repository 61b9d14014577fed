"""The Training tab: one run's timeline and progress, the gate, the table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from feedback_ui import texts
from feedback_ui.html import (
    ago,
    badge,
    card,
    code,
    duration,
    empty,
    esc,
    facts,
    fold,
    notice,
    number,
    parse_time,
    table,
)
from feedback_ui.ops.training.actions import Followed, remaining
from trimtab_client.values import RUN_UNDER_WAY

TONES = {
    "stable": "good",
    "canary": "accent",
    "published": "accent",
    "failed": "bad",
    "rejected": "bad",
    "rolled_back": "warn",
    "cancelled": "quiet",
}


def state_badge(state: str) -> str:
    """Render a run's state in its colour; a working state is marked as moving."""
    tone = TONES.get(state, "warn" if state in RUN_UNDER_WAY else "quiet")
    return badge(state.replace("_", " "), tone)


def progress(followed: Followed | None) -> str:
    """Render one run: its recipe, state, progress and end."""
    if followed is None:
        return card("", empty(texts.RUNS_EMPTY, texts.RUNS_EMPTY_TITLE))
    run = followed.run
    method = f"{str(run.get('method', '')).upper()} · {'QLoRA' if run.get('qlora') else 'LoRA'}"
    head = (
        f'<header class="tt-run-head"><div><b>{esc(run.get("id"))}</b> '
        f'<span class="tt-subdued">{esc(method)} · {esc(run.get("deployment"))} · started {ago(run.get("created_at"))}'
        f"{_by(run)}</span></div>{state_badge(str(run.get('state', '')))}</header>"
    )
    body = head + timeline(run) + _bar(run) + _failure(run) + _left_out(run) + _numbers(run) + gate(run)
    return card("", body, css_class="tt-run")


def plan(found: Mapping[str, Any]) -> str:
    """Render what a run would need: memory by part, time, and whether it fits this machine."""
    fits = bool(found["fits"])
    room = "" if found.get("available") is None else f" of {_gigabytes(found['available'])}"
    head = badge(texts.TRAIN_FITS, "good") if fits else badge(texts.TRAIN_FITS_NOT, "bad")
    rows = [
        ("Peak memory", _gigabytes(found["total"]) + room),
        ("Time", f"{esc(duration(found['seconds']))} for {found['steps']:,} steps"),
        ("Rows", number(found["rows"])),
        ("Trainable parameters", number(found["trainable_parameters"])),
    ]
    parts = facts((name.capitalize(), _gigabytes(size)) for name, size in found["parts"].items())
    words = [*found.get("notes", ()), *([found["advice"]] if found.get("advice") else [])]
    said = "".join(notice(text, "quiet" if fits else "warn") for text in words)
    values = "\n".join(f"{name} = {value}" for name, value in found["values"].items())
    more = fold("plan-memory", "Memory by part", parts) + fold(
        "plan-values", "All parameters", f"<pre>{esc(values)}</pre>"
    )
    return card(texts.TRAIN_PLAN_TITLE, facts(rows) + said + more, head)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _by(run: Mapping[str, Any]) -> str:
    return f" by {esc(run['requested_by'])}" if run.get("requested_by") else ""


def timeline(run: Mapping[str, Any]) -> str:
    """Render the states in order, each with the seconds spent in it; those still ahead are faint."""
    seconds = _seconds(run)
    state = str(run.get("state", ""))
    seen = list(dict.fromkeys(str(t.get("state")) for t in run.get("transitions", ())))
    goal = {"none": "published", "canary": "canary", "promote": "stable"}.get(
        str(run.get("rollout")), "published"
    )
    ahead = [s for s in (*RUN_UNDER_WAY, goal) if s not in seen] if state in RUN_UNDER_WAY else []
    items = []
    for name in (*seen, *ahead):
        css = "tt-now" if name == state else "tt-past" if name in seen else "tt-ahead"
        css += " tt-moving" if name == state and state in RUN_UNDER_WAY else ""
        css += " tt-wrong" if name in ("failed", "rejected") else ""
        took = f"<small>{esc(duration(seconds[name]))}</small>" if name in seconds else ""
        here = ' aria-current="step"' if name == state else ""
        items.append(f'<li class="{css}"{here}><i></i><span>{esc(name.replace("_", " "))}</span>{took}</li>')
    return f'<ol class="tt-timeline" aria-label="States of the run">{"".join(items)}</ol>'


def _seconds(run: Mapping[str, Any]) -> dict[str, float]:
    given = run.get("seconds_by_state") or {}
    if given:
        return {str(name): float(value) for name, value in given.items()}
    spent: dict[str, float] = {}
    for before, after in pairwise(run.get("transitions", ())):
        start, end = parse_time(before.get("at")), parse_time(after.get("at"))
        if start and end:
            spent[before["state"]] = spent.get(before["state"], 0.0) + (end - start).total_seconds()
    return spent


def _took(run: Mapping[str, Any]) -> float | None:
    """Return the seconds from the request until the run settled, or until now while it works."""
    began = parse_time(run.get("created_at"))
    if began is None:
        return None
    ended = datetime.now(UTC) if run.get("state") in RUN_UNDER_WAY else parse_time(run.get("updated_at"))
    return (ended - began).total_seconds() if ended else None


def _bar(run: Mapping[str, Any]) -> str:
    step, total = run.get("step") or 0, run.get("total_steps")
    doing = run.get("activity") or {}
    if doing.get("stage") or doing.get("phase", "training") != "training":
        return _doing(doing) + (_steps(step, total) if step else "")
    if not total:
        return ""
    left = remaining(run)
    eta = f"about {duration(left)} left" if left is not None else ""
    return _steps(step, total, eta)


def _doing(activity: Mapping[str, Any]) -> str:
    """Render the worker's phase between the run's steps, during which the bar does not move."""
    phase = str(activity.get("phase"))
    said = texts.ACTIVITIES.get(phase, phase)
    if activity.get("stage") == "sft":
        said = texts.ACTIVITY_SFT.format(doing=said[:1].lower() + said[1:])
    done, of = activity.get("done"), activity.get("of")
    if not of:
        return f'<p class="tt-subdued" role="status">{esc(said)} …</p>'
    return _progress(done or 0, of, said, f"{number(done or 0)} of {number(of)}")


def _steps(step: int, total: Any, eta: str = "") -> str:
    return _progress(step, total or step, f"Step {number(step)} of {number(total)}", eta, "Training steps")


def _progress(done: int, of: int, said: str, beside: str, label: str | None = None) -> str:
    return (
        f'<div class="tt-progress" role="progressbar" aria-valuemin="0" aria-valuemax="{esc(of)}" '
        f'aria-valuenow="{esc(done)}" aria-label="{esc(label or said)}">'
        f'<i style="width:{min(1.0, done / of) * 100:.1f}%"></i></div>'
        f'<div class="tt-progress-text"><span>{esc(said)}</span><span>{esc(beside)}</span></div>'
    )


def _failure(run: Mapping[str, Any]) -> str:
    return notice(str(run["error"]), "bad") if run.get("error") else ""


def _left_out(run: Mapping[str, Any]) -> str:
    """Render the rows that training left out, and the worker's notes on data and model."""
    counts = run.get("left_out") or {}
    said = ", ".join(f"{number(n)} {name.replace('_', ' ')}" for name, n in counts.items())
    notes = "".join(f"<li>{esc(note)}</li>" for note in run.get("notes") or ())
    return (notice(texts.RUN_LEFT_OUT.format(counts=said), "warn") if said else "") + (
        fold(f"notes-{run.get('id')}", texts.RUN_NOTES, f"<ul>{notes}</ul>") if notes else ""
    )


_NAMES = (
    ("loss", "Loss"),
    ("rewards/chosen", "Reward of chosen"),
    ("rewards/rejected", "Reward of rejected"),
    ("rewards/margins", "Reward margin"),
    ("rewards/accuracies", "Accuracy"),
    ("logps/token", "Log-probability a token"),
    ("mean_token_accuracy", "Token accuracy"),
    ("learning_rate", "Learning rate"),
    ("tokens_per_second", "Tokens a second"),
)


def _numbers(run: Mapping[str, Any]) -> str:
    metrics = run.get("metrics") or {}
    rows = [(label, number(metrics[key])) for key, label in _NAMES if metrics.get(key) is not None]
    if metrics.get("memory_bytes"):
        rows.append(("Peak memory", f"{metrics['memory_bytes'] / 1e9:.2f} GB"))
    rows += [
        (label, code(run[key]))
        for key, label in (("release", "Release"), ("snapshot", "Snapshot"), ("adapter", "Adapter"))
        if run.get(key)
    ]
    params = "\n".join(f"{name} = {value}" for name, value in (run.get("params") or {}).items())
    more = fold(f"params-{run.get('id')}", "Parameters", f"<pre>{esc(params)}</pre>") if params else ""
    return (facts(rows) if rows else "") + more


_VERDICTS = {"pass": ("passed", "good"), "fail": ("not passed", "bad"), "undecided": ("undecided", "quiet")}


def gate(run: Mapping[str, Any]) -> str:
    """Render what the gate decided, and why."""
    decision = run.get("gate_decision")
    if not decision:
        return ""
    verdict = str(decision.get("verdict") or ("pass" if decision.get("passed") else "fail"))
    word, tone = _VERDICTS.get(verdict, (verdict, "quiet"))
    reasons = "".join(f"<li>{esc(reason)}</li>" for reason in decision.get("reasons") or ())
    mode = " (report only)" if decision.get("mode") == "report" else ""
    return (
        f'<div class="tt-gate"><b>{esc(texts.GATE_REPORT)}</b> {badge(word, tone)}'
        f'<span class="tt-subdued">{mode}</span><ul>{reasons}</ul></div>'
    )


def runs(rows: Sequence[Mapping[str, Any]], picked: str | None) -> str:
    """Render the table of runs; each id is a button that shows the run above."""
    if not rows:
        return card(texts.RUNS, empty(texts.RUNS_EMPTY, texts.RUNS_EMPTY_TITLE))
    heads = ("Run", "Method", "State", "Steps", "Then", "Release", "Started", "Took")
    cells = [
        (
            f'<button type="button" class="tt-link" data-id="{esc(row.get("id"))}"'
            f"{' aria-current=true' if row.get('id') == picked else ''}>{esc(row.get('id'))}</button>",
            f"{esc(str(row.get('method', '')).upper())} {'QLoRA' if row.get('qlora') else 'LoRA'}",
            state_badge(str(row.get("state", ""))),
            f"{number(row.get('step') or 0)} / {number(row.get('total_steps'))}",
            esc(row.get("rollout")),
            esc(row.get("release") or "–"),
            ago(row.get("created_at")),
            esc(duration(_took(row))),
        )
        for row in rows
    ]
    return card(texts.RUNS, table(heads, cells, texts.RUNS, numeric=(3, 7)))
