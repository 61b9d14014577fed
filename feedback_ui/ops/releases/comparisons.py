"""The Releases tab: searches for prompts, and comparisons of releases and models, with what they recommend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import texts
from feedback_ui.html import ago, badge, card, duration, empty, esc, fold, number, table

SEARCH, WAYS, MODELS = "prompts.search", "releases.compare", "models.compare"
KINDS = {SEARCH: texts.WAYS_SEARCH, WAYS: texts.WAYS_COMPARED, MODELS: texts.WAYS_MODELS}
"""Kinds of jobs that are shown here."""
SHOWN = 10
PRIMARY = ("win_rate", "judge_win_rate", "reward_accuracy")


def comparisons(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Render the newest searches and comparisons; each that is done unfolds into its table."""
    if not jobs:
        return card(texts.WAYS_LIST, empty(texts.WAYS_EMPTY))
    return card(texts.WAYS_LIST, "".join(_job(job) for job in jobs[:SHOWN]))


def _job(job: Mapping[str, Any]) -> str:
    tone = {"done": "good", "failed": "bad"}.get(str(job.get("state")), "warn")
    params = job.get("params") or {}
    about = params.get("deployment") or ", ".join((params.get("models") or {}).values())
    result = job.get("result") or {}
    body = _search(result) if job.get("kind") == SEARCH else _compared(job, result)
    lines = [f'<p class="tt-subdued">{esc(job["error"])}</p>' if job.get("error") else "", _progress(job)]
    folded = fold(f"job-{job.get('id')}", texts.WAYS_TABLE, body) if body else ""
    return (
        f'<article class="tt-evaluation"><header><span><b>{esc(KINDS.get(str(job.get("kind"))))}</b> {esc(about)} '
        f'<span class="tt-subdued">· {ago(job.get("created_at"))}</span></span>'
        f"{badge(job.get('state'), tone)}</header>{''.join(lines)}{_advice(result)}{folded}</article>"
    )


def _progress(job: Mapping[str, Any]) -> str:
    at = job.get("progress")
    if not at:
        return ""
    left = f", about {duration(at['seconds_left'])} left" if at.get("seconds_left") is not None else ""
    said = f"{at.get('doing')}: {number(at.get('done'))} of {number(at.get('total'))}{left}"
    return f'<p class="tt-subdued">{esc(said)}</p>'


def _advice(result: Mapping[str, Any]) -> str:
    if result.get("why"):
        return f"<p><b>{esc(texts.WAYS_RECOMMENDED)} {esc(result.get('recommended'))}.</b> {esc(result['why'])}</p>"
    if "winner" in result:
        found = result.get("release")
        return f"<p>{esc(texts.WAYS_FOUND.format(release=found) if found else texts.WAYS_NOTHING)}</p>"
    return ""


def _search(result: Mapping[str, Any]) -> str:
    """Render the best prompts with their scores on requests that the search chose on, and on others."""
    if not result:
        return ""
    tested = (result.get("test") or {}).get("models") or {}
    rows = []
    for one in result.get("best") or ():
        kind = "few-shot" if one.get("shots") else "prompt"
        measures = (tested.get(kind) or {}).get("measures") or {}
        rows.append(
            (
                esc((result.get("releases") or {}).get(kind) or "–"),
                esc(one.get("instruction") or "–"),
                number(one.get("shots")),
                _estimate(one.get("development")),
                _estimate(_quality(measures)),
            )
        )
    return table(texts.WAYS_SEARCH_HEADS, rows, texts.WAYS_SEARCH, numeric=(2, 3, 4))


def _compared(job: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Render what was compared: ways with cost and verdict, cheapest first, or models."""
    models = result.get("models") or {}
    if not models:
        return ""
    ways = {row["way"]: row for row in result.get("ways") or ()}
    rows = [_row(name, models[name], ways.get(name) or {}) for name in (list(ways) or list(models))]
    address = f"./api/releases/compare/{esc(job.get('id'))}/report.html"
    page = f'<p><a href="{address}" target="_blank" rel="noopener">{esc(texts.WAYS_PAGE)}</a></p>'
    return page + table(texts.WAYS_HEADS, rows, texts.WAYS, numeric=(2, 4, 5, 6, 7, 8))


def _row(name: str, model: Mapping[str, Any], way: Mapping[str, Any]) -> tuple[str, ...]:
    speed, cost = model.get("speed") or {}, way.get("cost") or {}
    verdict = "–"
    if "gate" in way:
        verdict = badge("passes", "good") if way.get("passes") else badge(way["gate"], "warn")
    minutes = cost.get("training_minutes")
    return (
        f"<b>{esc(name)}</b>",
        esc(model.get("model")),
        _estimate(way.get("quality") or _quality(model.get("measures") or {})),
        verdict,
        _median(speed, "prompt_tokens", 0),
        _median(speed, "first_token_s", 3),
        _median(speed, "tokens_per_second", 1),
        "–" if minutes is None else number(minutes, 1),
        number(cost["seconds_per_day"], 0) if cost else "–",
    )


def _quality(measures: Mapping[str, Any]) -> Any:
    return next(
        (found["release"] for name in PRIMARY if (found := measures.get(name)) and "release" in found), None
    )


def _median(speed: Mapping[str, Any], figure: str, digits: int) -> str:
    found = speed.get(figure)
    return number(found["median"], digits) if found else "–"


def _estimate(found: Any) -> str:
    if not isinstance(found, Mapping) or found.get("value") is None:
        return "–"
    if found.get("low") is None or found.get("high") is None:
        return number(found["value"])
    between = f"{number(found['low'])} to {number(found['high'])}"
    return f'{number(found["value"])} <small class="tt-subdued">{between}</small>'
