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
from align.evaluation.measures import Scored, choose_rows, measure
from align.messages import was_cut, whole_row

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


class RowRefused(EvaluationError):
    """The platform takes no request for this row: its chat template refuses the conversation, or it is too long."""


class ChatApi:
    """An OpenAI-compatible endpoint: `async with ChatApi("http://127.0.0.1:7860", key=...) as api`.

    At most `concurrency` requests are open at once; an overloaded platform (429, 503) is asked again up to
    `retries` times, after as long as it says. Without `timeout_s` the platform alone decides how long an answer may
    take: it knows a busy engine from a dead one.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        concurrency: int = 4,
        timeout_s: float | None = None,
        retries: int = 5,
    ) -> None:
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            headers={**authorization, **(headers or {})},
            timeout=httpx.Timeout(timeout_s, connect=10.0),
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

        Raises `EvaluationError` when the platform cannot be reached or answers with an error, `RowRefused` when it does
        not take the request.
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
        kind = RowRefused if answer.status_code == 400 else EvaluationError
        raise kind(f"{body['model']}: HTTP {answer.status_code}: {_message(answer)}")


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


async def run_suite(
    api: ChatApi,
    release: str,
    against: str | None,
    heldout: Path,
    suite: str = "default",
    on_progress: OnProgress | None = None,
    anchor: str | None = None,
    seed: str = "",
) -> dict[str, Any]:
    """Measure `release`, and `against` and `anchor` beside it on held-out rows; return the report.

    The report's `measures` maps a name to `{"release", "against", "difference", "anchor", "anchor_difference"}`, each
    an estimate `{"value", "low", "high", "n"}` at 95% over clusters of rows that share a prompt (align.stats):

    * `preference_accuracy`, `preference_accuracy_per_token`: share of pairs whose chosen answer is likelier;
    * `reward_accuracy`, `reward_margin`: implicit rewards of `release` with `against` as the reference, in
    nats;
      where rows are likes, the share of answers that became likelier if liked and less likely if not;
    * `anchor_reward_accuracy`: the same with the anchor as the reference;
    * `loss`: negative log-likelihood a token of chosen answers, demonstrations or liked answers, and
      `chosen_logp_per_token`, the same with its sign changed;
    * `drift`: mean absolute difference a token of the two releases' log-probabilities on those answers;
    * `answer_tokens`, `latency_s`, `tokens_per_second`: of answers generated at temperature 0, and `length_ratio`
      of their mean lengths.

    The anchor is what a gate measures slow decline against; the same release as `against` is not asked twice.
    `seed` draws which clusters of rows are looked at. `on_progress` gets `{"done", "total"}`; it may be a
    coroutine function. Cancel the task to stop: requests under way are abandoned. Raises `EvaluationError`, or
    `DataError` when the rows cannot be read or there are none.
    """
    if suite not in SUITES:
        raise EvaluationError(f"suite = {suite!r}: accepted is one of {', '.join(SUITES)}")
    plan = SUITES[suite]
    rows = choose_rows(await asyncio.to_thread(_read, heldout), plan.rows, seed)
    models = list(dict.fromkeys(name for name in (release, against, anchor) if name is not None))
    began = time.monotonic()
    done = 0
    total = len(rows) * len(models)

    async def one(model: str, number: int) -> Scored | RowRefused:
        nonlocal done
        scored: Scored | RowRefused
        try:
            scored = await _score(api, model, rows[number], plan.max_tokens if number < plan.answers else 1)
        except RowRefused as refusal:
            scored = refusal
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
    results = [[tasks[model][i].result() for model in models] for i in range(len(rows))]
    kept, refusals = _without_refused(results)
    rows = [rows[i] for i in kept]
    scores = {model: [kept[i][place] for i in kept] for place, model in enumerate(models)}
    theirs = scores[against] if against not in (None, release) else None
    past = scores[anchor] if anchor not in (None, release) else None
    return {
        "suite": suite,
        "release": release,
        "against": against,
        "anchor": anchor,
        "rows": len(rows),
        "refused": {"rows": len(refusals), "examples": refusals[:3]},
        "measures": measure(rows, scores[release], theirs, past),
        "seconds": time.monotonic() - began,
    }


def _without_refused(
    results: Sequence[Sequence[Scored | RowRefused]],
) -> tuple[dict[int, list[Scored]], list[str]]:
    """Return the scores of the rows that every release took, by place, and why the others were refused.

    Raises `EvaluationError` where none is left.
    """
    kept: dict[int, list[Scored]] = {}
    refusals: list[str] = []
    for place, scores in enumerate(results):
        why = next((str(score) for score in scores if isinstance(score, RowRefused)), None)
        if why is None:
            kept[place] = [score for score in scores if isinstance(score, Scored)]
        else:
            refusals.append(why)
    if not kept:
        raise EvaluationError(f"every row was refused: {refusals[0]}")
    return kept, refusals


def _read(heldout: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(heldout).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{heldout} cannot be read: {error}") from error
    if not rows:
        raise DataError(
            "there are no held-out rows to measure on", "collect more pairs, or raise heldout_fraction"
        )
    return [whole_row(row) for row in rows]


async def _score(api: ChatApi, model: str, row: dict[str, Any], max_tokens: int) -> Scored:
    answers = ("chosen", "rejected") if "chosen" in row else ("completion",)
    common = {"model": model, "temperature": 0.0, "return_token_ids": True}
    alone, seconds = await api.chat({**common, "messages": row["prompt"], "max_tokens": max_tokens})
    prompt_ids = _prompt_ids(alone)
    scored = Scored([], [], [])
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
