"""The suite: what a release is worth, measured through the platform's own `/v1/chat/completions`.

Nothing is computed here but statistics; no torch. What is measured is what is served: adapter, system prompt, chat
template, quantisation. A suite is a list of measurements (align.evaluation.suite_file); each gives items, and the report
is computed from these (align.evaluation.report).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from align.errors import DataError
from align.evaluation.answering.answers import choose_prompts, measure_answers, measure_instructions
from align.evaluation.answering.asking import Asking, OnProgress
from align.evaluation.answering.chat_api import ChatApi, EvaluationError, RowRefused
from align.evaluation.answering.pace import Pace, measure_pace, row_tokens
from align.evaluation.drift import measure_texts
from align.evaluation.heldout_prompts import HeldoutPrompts
from align.evaluation.items import Item
from align.evaluation.judging.judge import JudgeApi, Voted, measure_by_judge
from align.evaluation.measures import choose_rows
from align.evaluation.report import measures_of
from align.evaluation.scoring import measure_heldout, reference_of
from align.evaluation.suite_file import (
    Answers,
    AnyMeasurement,
    Estimate,
    Heldout,
    Instructions,
    Judge,
    Suite,
    Texts,
    WinRate,
    estimate,
    load_suite,
)
from align.evaluation.win_rate import judge_by_rules
from align.messages import whole_row

__all__ = ["ChatApi", "EvaluationError", "RowRefused", "run_suite"]

log = logging.getLogger(__name__)

Keep = Callable[[Sequence[Item]], Awaitable[None]]


async def run_suite(
    api: ChatApi,
    release: str,
    against: str | None,
    heldout: Path | HeldoutPrompts,
    suite: str = "default",
    on_progress: OnProgress | None = None,
    anchor: str | None = None,
    seed: str = "",
    keep: Keep | None = None,
    caps: Mapping[str, int] | None = None,
    voted: Sequence[Voted] = (),
    pairs: int = 0,
    probe: bool = False,
    fresh: Collection[str] = (),
) -> dict[str, Any]:
    """Measure `release`, and `against` and `anchor` beside it; return the report.

    The report's `measures` maps a name to `{"release", "against", "difference", "anchor", "anchor_difference"}`, each
    an estimate `{"value", "low", "high", "n"}` at 95% over clusters of rows that share a prompt (align.stats);
    docs/evaluation.md has their names.

    `suite` is a built-in suite or the path of a TOML file. The anchor is what a gate measures slow decline against; the
    same release as `against` is asked once. `seed` draws which clusters of rows and which neutral entries are
    looked at. `on_progress` gets `{"done", "total", "seconds_left"}`, first before anything is asked; it may be a
    coroutine function. `keep` gets the items before the report is returned. `caps` are the most tokens that
    releases answer with by themselves. `voted` are comparisons that people decided, for judges. At least `pairs` held-out
    prompts are answered, for people to compare; answers to `HeldoutPrompts` are compared by their rules. With `probe`, a few
    short requests measure the engine's pace first, and the expected seconds follow from it. `fresh` are the ids of
    rows that arrived since releases were last measured: they are chosen first, and measured by themselves, too. Cancel the
    task to stop: requests under way are abandoned. Raises `EvaluationError`, or `DataError` when the rows cannot be
    read or there are none.
    """
    plan = _plan(suite, heldout, pairs)
    wanted = rows_wanted(plan)
    rows = choose_rows(await asyncio.to_thread(_rows_of, heldout, fresh), wanted, seed) if wanted else []
    asking = Asking(api, _models(release, against, anchor), seed, on_progress)
    pace = await measure_pace(asking) if probe else Pace()
    expected = expect(asking, plan, rows, len(voted), pace)
    asking.total, asking.expected_s = expected.requests, expected.seconds
    log.info("suite %s of %s: %d requests, about %.0f s", suite, release, expected.requests, expected.seconds)
    await asking.progress()
    items: list[Item] = []
    refusals: dict[str, list[str]] = {}
    took: dict[str, float] = {}
    for part in plan.measurements:
        began = time.monotonic()
        found, refused = await _measure(asking, part, rows, caps or {}, items, voted)
        items += found
        took[part.kind] = took.get(part.kind, 0.0) + time.monotonic() - began
        refusals.setdefault(part.kind, []).extend(refused)
    items = _with_anchor_beside(items, against, anchor)
    asking.total = asking.done  # fewer than expected where rows were refused
    await asking.progress()
    if keep is not None:
        await keep(items)
    refused_rows = refusals.pop("heldout", [])
    return {
        "suite": suite,
        "release": release,
        "against": against,
        "anchor": anchor,
        "rows": len({item.item for item in items if item.measure == "heldout"}),
        "refused": {
            "rows": len(refused_rows),
            "examples": refused_rows[:3],
            **{kind: len(why) for kind, why in refusals.items()},
        },
        "measures": await asyncio.to_thread(measures_of, items),
        "seconds": time.monotonic() - asking.began,
        "expected_seconds": expected.seconds,
        "pace": pace.to_json(),
        "seconds_by_kind": {kind: round(seconds, 1) for kind, seconds in took.items()},
    }


def _models(release: str, against: str | None, anchor: str | None) -> dict[str, str]:
    """Return the models by side; one that is there already is not asked twice."""
    models = {"release": release}
    if against is not None and against != release:
        models["against"] = against
    if anchor is not None and anchor not in models.values():
        models["anchor"] = anchor
    return models


def _with_anchor_beside(items: list[Item], against: str | None, anchor: str | None) -> list[Item]:
    """Add the anchor's items where it is the release that was asked as `against`."""
    if anchor is None or anchor != against:
        return items
    scored = [item for item in items if item.side == "against" and item.measure in ("heldout", "text")]
    return [*items, *(replace(item, side="anchor") for item in scored)]


def rows_wanted(plan: Suite) -> int:
    """Return how many held-out rows are looked at; prompts are answered of the same rows."""
    wanted = [
        part.rows if isinstance(part, Heldout) else part.heldout
        for part in plan.measurements
        if isinstance(part, Heldout | Answers)
    ]
    return max(wanted, default=0)


def expect(
    asking: Asking, plan: Suite, rows: Sequence[Mapping[str, Any]], voted: int, pace: Pace | None = None
) -> Estimate:
    """Return what a suite asks of the releases about these rows, and how long that takes at a pace."""
    sides = len(asking.sides(*asking.generating))
    answers_per_row = 2 if rows and "chosen" in rows[0] else 1
    tokens = [row_tokens(row) for row in rows]
    return estimate(plan, len(asking.models), sides, tokens, answers_per_row, voted, pace)


async def _measure(
    asking: Asking,
    part: AnyMeasurement,
    rows: Sequence[dict[str, Any]],
    caps: Mapping[str, int],
    so_far: Sequence[Item],
    voted: Sequence[Voted],
) -> tuple[list[Item], list[str]]:
    if isinstance(part, WinRate | Judge):
        return await compare_answers(asking, part, so_far, voted), []
    return await ask_releases(asking, part, rows, caps)


async def compare_answers(
    asking: Asking,
    part: WinRate | Judge,
    items: Sequence[Item],
    voted: Sequence[Voted],
    open_judge: Callable[[Judge], JudgeApi] = JudgeApi,
) -> list[Item]:
    """Return who wins the pairs of answers of the release and the one beside it."""
    if isinstance(part, WinRate):
        return await asyncio.to_thread(judge_by_rules, items, part.rules, part.prefer)
    async with open_judge(part) as judge:
        return await measure_by_judge(judge, items, asking.prompts, voted)


async def ask_releases(
    asking: Asking,
    part: Heldout | Answers | Instructions | Texts,
    rows: Sequence[dict[str, Any]],
    caps: Mapping[str, int],
) -> tuple[list[Item], list[str]]:
    """Take a measurement that asks the releases; return its items and why requests were refused."""
    if isinstance(part, Heldout):
        return await measure_heldout(asking, rows[: part.rows])
    if isinstance(part, Answers):
        return await measure_answers(asking, part, choose_prompts(part, rows, asking.seed), caps)
    if isinstance(part, Instructions):
        return await measure_instructions(asking, part, caps)
    return await measure_texts(asking, part.texts)


def _plan(suite: str, heldout: Path | HeldoutPrompts, pairs: int) -> Suite:
    """Return what a suite measures on these held-out data, for `pairs` pairs of answers that people compare."""
    plan = load_suite(suite)
    plan = plan.with_answers(pairs) if pairs else plan
    return heldout.plan_of(plan) if isinstance(heldout, HeldoutPrompts) else plan


def _rows_of(heldout: Path | HeldoutPrompts, fresh: Collection[str]) -> list[dict[str, Any]]:
    if isinstance(heldout, HeldoutPrompts):
        return list(heldout.rows)
    return [{**row, "fresh": reference_of(row) in fresh} for row in read_rows(heldout)]


def read_rows(heldout: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file of a snapshot. Raises `DataError` where there are none."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(heldout).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{heldout} cannot be read: {error}") from error
    if not rows:
        raise DataError(
            "there are no held-out rows to measure on", "collect more pairs, or raise heldout_fraction"
        )
    return [whole_row(row) for row in rows]
