"""The suite: what a release is worth, measured through the platform's own `/v1/chat/completions`.

Nothing is computed here but statistics; no torch. Held-out answers are scored by the engine
(`prompt_logprobs`), so what is measured is what is served: adapter, system prompt, chat template,
quantisation. Where the answer begins is found from a request of the prompt alone, which also gives a
generated answer's length and latency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pyarrow.parquet as pq

from align.errors import AlignError, DataError
from align.messages import was_cut, whole_row
from align.stats import mean_interval, paired_bootstrap, wilson

OnProgress = Callable[[dict[str, Any]], Awaitable[None] | None]


class EvaluationError(AlignError):
    """The suite cannot be run: an unknown suite, or the platform refuses or fails a request."""

    kind = "evaluation"


@dataclass(frozen=True)
class Suite:
    """How much is measured: held-out rows scored, prompts answered, and at most so many tokens an answer."""

    rows: int
    answers: int
    max_tokens: int


SUITES = {
    "quick": Suite(rows=16, answers=2, max_tokens=32),
    "default": Suite(rows=64, answers=8, max_tokens=64),
    "full": Suite(rows=1024, answers=64, max_tokens=256),
}


class ChatApi:
    """An OpenAI-compatible endpoint: `async with ChatApi("http://127.0.0.1:7860", key=...) as api`.

    At most `concurrency` requests are open at once; an overloaded platform (429, 503) is asked again up to
    `retries` times, after as long as it says.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        concurrency: int = 4,
        timeout_s: float = 300.0,
        retries: int = 5,
    ) -> None:
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={**authorization, **(headers or {})},
            timeout=timeout_s,
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._retries = retries

    async def __aenter__(self) -> ChatApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def chat(self, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Return the answer to one chat completion and the seconds it took.

        Raises `EvaluationError` when the platform cannot be reached or answers with an error.
        """
        async with self._slots:
            for attempt in range(self._retries + 1):
                started = time.perf_counter()
                try:
                    answer = await self._client.post("/v1/chat/completions", json={**body, "store": False})
                except httpx.HTTPError as error:
                    raise EvaluationError(f"the platform cannot be reached: {error!r}") from error
                if answer.status_code == 200:
                    return answer.json(), time.perf_counter() - started
                if answer.status_code not in (429, 503) or attempt == self._retries:
                    break
                await asyncio.sleep(_retry_after(answer))
        raise EvaluationError(f"{body['model']}: HTTP {answer.status_code}: {_message(answer)}")


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(30.0, max(0.1, float(answer.headers.get("retry-after", "1"))))
    except ValueError:
        return 1.0


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]


@dataclass
class _Scored:
    """One release on one row: log-probability and length of each answer, and of the generated one."""

    logps: list[float]
    tokens: list[int]
    per_token: list[list[float]]
    generated_tokens: int | None = None
    seconds: float | None = None


async def run_suite(
    api: ChatApi,
    release: str,
    against: str | None,
    heldout: Path,
    suite: str = "default",
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measure `release`, and `against` beside it, on a snapshot's held-out rows; return the report.

    The report's `measures` maps a name to `{"release", "against", "difference"}`, each an estimate
    `{"value", "low", "high", "n"}` (95%; Wilson for shares, normal for means, paired bootstrap for
    differences):

    * `preference_accuracy`, `preference_accuracy_per_token`: share of pairs whose chosen answer is likelier;
    * `reward_accuracy`, `reward_margin`: implicit rewards of `release` with `against` as the reference, in
    nats;
      where rows are likes, the share of answers that became likelier if liked and less likely if not;
    * `loss`: negative log-likelihood a token of chosen answers, demonstrations or liked answers;
    * `drift`: mean absolute difference a token of the two releases' log-probabilities on those answers;
    * `answer_tokens`, `latency_s`, `tokens_per_second`: of answers generated at temperature 0.

    `on_progress` gets `{"done", "total"}`; it may be a coroutine function. Cancel the task to stop: requests
    under way are abandoned. Raises `EvaluationError`, or `DataError` when the rows cannot be read or there
    are none.
    """
    if suite not in SUITES:
        raise EvaluationError(f"suite = {suite!r}: accepted is one of {', '.join(SUITES)}")
    plan = SUITES[suite]
    rows = await asyncio.to_thread(_read, heldout, plan.rows)
    models = [release] if against in (None, release) else [release, str(against)]
    began = time.monotonic()
    done = 0
    total = len(rows) * len(models)

    async def one(model: str, number: int) -> _Scored:
        nonlocal done
        scored = await _score(api, model, rows[number], plan.max_tokens if number < plan.answers else 1)
        done += 1
        if on_progress is not None:
            outcome = on_progress({"done": done, "total": total})
            if outcome is not None:
                await outcome
        return scored

    try:
        async with asyncio.TaskGroup() as group:  # the first failure cancels the rest
            tasks = {m: [group.create_task(one(m, i)) for i in range(len(rows))] for m in models}
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    scores = {model: [task.result() for task in mine] for model, mine in tasks.items()}
    theirs = scores[models[1]] if len(models) > 1 else None
    return {
        "suite": suite,
        "release": release,
        "against": against,
        "rows": len(rows),
        "measures": _measures(scores[release], theirs, [row.get("label") for row in rows]),
        "seconds": time.monotonic() - began,
    }


def _read(heldout: Path, limit: int) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(heldout).slice(0, limit).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{heldout} cannot be read: {error}") from error
    if not rows:
        raise DataError(
            "there are no held-out rows to measure on", "collect more pairs, or raise heldout_fraction"
        )
    return [whole_row(row) for row in rows]


async def _score(api: ChatApi, model: str, row: dict[str, Any], max_tokens: int) -> _Scored:
    answers = ("chosen", "rejected") if "chosen" in row else ("completion",)
    common = {"model": model, "temperature": 0.0, "return_token_ids": True}
    alone, seconds = await api.chat({**common, "messages": row["prompt"], "max_tokens": max_tokens})
    prompt_ids = _prompt_ids(alone)
    scored = _Scored([], [], [])
    if max_tokens > 1:
        scored.generated_tokens = (alone.get("usage") or {}).get("completion_tokens")
        scored.seconds = seconds
    for answer in answers:
        body = {
            **common,
            "messages": [*row["prompt"], *row[answer]],
            "max_tokens": 1,
            "prompt_logprobs": 0,
            "add_generation_prompt": False,
            # an answer that was cut is measured as it was trained on: without the end token
            **({"continue_final_message": True} if was_cut(row.get(f"{answer}_finish_reason")) else {}),
        }
        whole, _ = await api.chat(body)
        ids = _prompt_ids(whole)
        logprobs = _prompt_logprobs(whole, ids)
        start = _common(prompt_ids, ids)
        scored.per_token.append(logprobs[start:])
        scored.logps.append(sum(logprobs[start:]))
        scored.tokens.append(len(ids) - start)
    return scored


def _prompt_ids(answer: dict[str, Any]) -> list[int]:
    ids = answer.get("prompt_token_ids")
    if not isinstance(ids, list) or not ids:
        raise EvaluationError("the endpoint returned no prompt_token_ids (return_token_ids is not supported)")
    return ids


def _prompt_logprobs(answer: dict[str, Any], ids: Sequence[int]) -> list[float]:
    entries = answer.get("prompt_logprobs")
    if not isinstance(entries, list) or len(entries) != len(ids):
        raise EvaluationError("the endpoint returned no prompt_logprobs for the prompt's tokens")
    return [0.0 if e is None else float(e[str(i)]["logprob"]) for e, i in zip(entries, ids, strict=True)]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _measures(
    ours: list[_Scored], theirs: list[_Scored] | None, labels: Sequence[bool | None]
) -> dict[str, Any]:
    measures: dict[str, Any] = {}
    pairs = len(ours[0].logps) == 2
    if theirs is not None and None not in labels:
        gains = [a.logps[0] - b.logps[0] for a, b in zip(ours, theirs, strict=True)]
        right = [_win(gain if liked else -gain) for gain, liked in zip(gains, labels, strict=True)]
        measures["reward_accuracy"] = {"release": wilson(sum(right), len(right))}
    # Only what was liked shall become likelier.
    good = [i for i, liked in enumerate(labels) if liked is not False] or list(range(len(ours)))

    def compare(
        name: str, value: Callable[[_Scored], float], share: bool = False, only: Sequence[int] | None = None
    ) -> None:
        places = range(len(ours)) if only is None else only
        mine = [value(ours[i]) for i in places]
        measures[name] = {"release": wilson(sum(mine), len(mine)) if share else mean_interval(mine)}
        if theirs is not None:
            other = [value(theirs[i]) for i in places]
            measures[name]["against"] = wilson(sum(other), len(other)) if share else mean_interval(other)
            measures[name]["difference"] = paired_bootstrap(mine, other)

    if pairs:
        compare("preference_accuracy", lambda s: _win(s.logps[0] - s.logps[1]), share=True)
        compare(
            "preference_accuracy_per_token",
            lambda s: _win(s.logps[0] / s.tokens[0] - s.logps[1] / s.tokens[1]),
            share=True,
        )
    compare("loss", lambda s: -s.logps[0] / s.tokens[0], only=good)
    if theirs is not None:
        if pairs:
            margins = [
                (a.logps[0] - b.logps[0]) - (a.logps[1] - b.logps[1])
                for a, b in zip(ours, theirs, strict=True)
            ]
            measures["reward_accuracy"] = {"release": wilson(sum(map(_win, margins)), len(margins))}
            measures["reward_margin"] = {"release": mean_interval(margins)}
        drift = [
            sum(abs(x - y) for x, y in zip(a.per_token[0], b.per_token[0], strict=True)) / a.tokens[0]
            for a, b in zip(ours, theirs, strict=True)
            if a.tokens[0] == b.tokens[0]
        ]
        if drift:
            measures["drift"] = {"release": mean_interval(drift)}
    _generated(measures, "release", ours)
    if theirs is not None:
        _generated(measures, "against", theirs)
    return measures


def _generated(measures: dict[str, Any], side: str, scored: list[_Scored]) -> None:
    answered = [(s.generated_tokens, s.seconds) for s in scored if s.generated_tokens and s.seconds]
    if not answered:
        return
    for name, values in (
        ("answer_tokens", [float(tokens or 0) for tokens, _ in answered]),
        ("latency_s", [float(seconds or 0) for _, seconds in answered]),
        ("tokens_per_second", [(tokens or 0) / (seconds or 1) for tokens, seconds in answered]),
    ):
        measures.setdefault(name, {})[side] = mean_interval(values)


def _win(margin: float) -> float:
    return 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0
