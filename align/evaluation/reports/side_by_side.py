"""Several releases or base models on one suite: each is asked the same, in turn, and compared with the first.

The items of a side, renamed, are those of an evaluation of that side against the baseline, so the same report is computed
from them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from align.evaluation.answering import speed
from align.evaluation.answering.asking import Asking, OnProgress
from align.evaluation.answering.chat_api import ChatApi, EvaluationError
from align.evaluation.items import Item
from align.evaluation.judging.judge import JudgeApi, Voted
from align.evaluation.measures import choose_rows
from align.evaluation.report import measures_of
from align.evaluation.suite import ask_releases, compare_answers, expect, rows_wanted
from align.evaluation.suite_file import Answers, AnyMeasurement, Heldout, Judge, Suite, WinRate

KeepSide = Callable[[str, Sequence[Item]], Awaitable[None]]
"""Takes a side's name and its items, as those of an evaluation against the baseline."""


@dataclass(frozen=True)
class Plan:
    """What is compared: models by their name in the report, the first of which the others are compared with.

    `caps` are the most tokens that models answer with by themselves, `voted` comparisons that people decided, for judges.
    Without `timed` no speed is measured.
    """

    models: Mapping[str, str]
    suite: Suite
    seed: str
    rows: Sequence[dict[str, Any]] = ()
    caps: Mapping[str, int] = field(default_factory=dict)
    voted: Sequence[Voted] = ()
    timed: bool = True
    open_judge: Callable[[Judge], JudgeApi] = JudgeApi

    @property
    def baseline(self) -> str:
        """The side that the others are compared with."""
        return next(iter(self.models))


async def compare(
    api: ChatApi, plan: Plan, on_progress: OnProgress | None = None, keep: KeepSide | None = None
) -> dict[str, Any]:
    """Measure every model; return `{"baseline", "models": {name: {"measures", "speed"}}, "refused", "seconds"}`.

    Measures are those of an evaluation against the baseline (docs/evaluation.md). Measurements that need held-out rows are
    left out where there are none. Cancel the task to stop. Raises `EvaluationError`.
    """
    others = [name for name in plan.models if name != plan.baseline]
    asking = Asking(
        api,
        dict(plan.models),
        plan.seed,
        on_progress,
        generating=tuple(plan.models),
        beside=tuple((name, plan.baseline) for name in others),
    )
    rows = choose_rows(plan.rows, rows_wanted(plan.suite), plan.seed)
    parts = _possible(plan.suite, rows)
    expected = expect(asking, Suite(measurements=tuple(parts)), rows, len(plan.voted))
    timing = speed.requests(len(plan.models)) if plan.timed else 0
    asking.total, asking.expected_s = expected.requests + timing, expected.seconds
    await asking.progress()
    items, refused = await _measure(asking, plan, parts, rows)
    timed = await speed.measure_speed(asking) if plan.timed else []
    asking.total = asking.done
    await asking.progress()
    for name in plan.models if keep is not None else ():
        await keep(name, of_side(items, name, plan.baseline))  # type: ignore[misc]
    return {
        "baseline": plan.baseline,
        "models": await asyncio.to_thread(_reports, plan, items, timed),
        "rows": len({item.item for item in items if item.measure == "heldout"}),
        "refused": {kind: len(why) for kind, why in refused.items() if why},
        "seconds": time.monotonic() - asking.began,
    }


def _possible(suite: Suite, rows: Sequence[Any]) -> list[AnyMeasurement]:
    """Return the measurements that these rows allow. Raises `EvaluationError` where none is left."""
    scored = bool(rows) and ("chosen" in rows[0] or "completion" in rows[0])
    parts: list[AnyMeasurement] = []
    for part in suite.measurements:
        if isinstance(part, Heldout) and not scored:
            continue
        prompts = isinstance(part, Answers) and part.prompts - (0 if rows else part.heldout)
        if isinstance(part, Answers) and not prompts:
            continue
        parts.append(part)
    if not parts:
        raise EvaluationError("the suite has only measurements of held-out data, and there is none")
    return parts


async def _measure(
    asking: Asking, plan: Plan, parts: Sequence[AnyMeasurement], rows: Sequence[dict[str, Any]]
) -> tuple[list[Item], dict[str, list[str]]]:
    items: list[Item] = []
    refused: dict[str, list[str]] = {}
    for part in parts:
        if isinstance(part, WinRate | Judge):
            for name in plan.models:
                if name != plan.baseline:
                    own = of_side(items, name, plan.baseline)
                    found = await compare_answers(asking, part, own, plan.voted, plan.open_judge)
                    items += [replace(item, side=name) for item in found]
            continue
        answered, why = await ask_releases(asking, part, rows, plan.caps)
        items += answered
        refused.setdefault(part.kind, []).extend(why)
    return items, refused


def of_side(items: Sequence[Item], name: str, baseline: str) -> list[Item]:
    """Return a side's items and the baseline's as those of an evaluation of the one against the other."""
    renamed = {name: "release", baseline: "against"} if name != baseline else {name: "release"}
    return [replace(item, side=renamed[item.side]) for item in items if item.side in renamed]


def _reports(plan: Plan, items: Sequence[Item], timed: Sequence[Item]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "model": model,
            "measures": measures_of(of_side(items, name, plan.baseline)),
            "speed": speed.speed_of(timed, name, None if name == plan.baseline else plan.baseline),
        }
        for name, model in plan.models.items()
    }
