"""Log-probabilities of given answers, as the engine computes them (`prompt_logprobs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.evaluation.answering.asking import Asking, complete
from align.evaluation.answering.chat_api import EvaluationError
from align.evaluation.items import Item, by_item, digest
from align.evaluation.measures import Scored, cluster_of
from align.messages import was_cut
from common.sequences import common_prefix_length

ID_COLUMNS = ("pair_id", "demo_id", "like_id", "prompt_id")


def reference_of(row: Mapping[str, Any]) -> str | None:
    """Return the store's id of a held-out row, None where the file has none."""
    return next((str(row[name]) for name in ID_COLUMNS if row.get(name)), None)


async def measure_heldout(asking: Asking, rows: Sequence[dict[str, Any]]) -> tuple[list[Item], list[str]]:
    """Score held-out rows by every release; return the items and why rows were refused.

    Raises `EvaluationError` where every row is refused.
    """

    def ask(row: dict[str, Any]) -> Any:
        async def scored(side: str, model: str) -> Scored:
            return await score(asking, model, row)

        return scored

    names = {str(place): row for place, row in enumerate(rows)}
    found = await asking.together([(name, ask(row)) for name, row in names.items()], *asking.models)
    kept, refused = complete(found, len(asking.models))
    if not kept:
        raise EvaluationError(f"every row was refused: {next(iter(refused.values()))}")
    items = []
    for name, scores in kept.items():
        row, cluster = names[name], digest(cluster_of(names[name]))
        for side, one in scores.items():
            detail = {
                "logps": one.logps,
                "tokens": one.tokens,
                "per_token": one.per_token,
                "label": row.get("label"),
                **({"fresh": True} if row.get("fresh") else {}),
            }
            reference = reference_of(row)
            items.append(Item("heldout", cluster, reference or name, side, reference, detail=detail))
    return items, list(refused.values())


def scores_of(items: Sequence[Item]) -> tuple[list[dict[str, Any]], dict[str, list[Scored]]]:
    """Return the clusters and labels of the held-out items, and each side's scores in the same order."""
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[Scored]] = {}
    for sides in by_item(items, "heldout").values():
        first = next(iter(sides.values()))
        detail = first.detail
        rows.append({"cluster": first.cluster, "label": detail["label"], "fresh": detail.get("fresh")})
        for side, item in sides.items():
            parts = (item.detail[name] for name in ("logps", "tokens", "per_token"))
            scores.setdefault(side, []).append(Scored(*parts))
    return rows, scores


async def score(asking: Asking, model: str, row: dict[str, Any]) -> Scored:
    """Score the answers of one row."""
    answers = ("chosen", "rejected") if "chosen" in row else ("completion",)
    common = {"model": model, "temperature": 0.0, "return_token_ids": True}
    alone, _ = await asking.api.chat({**common, "messages": row["prompt"], "max_tokens": 1})
    await asking.progress(1)
    prompt_ids = prompt_token_ids(alone)
    scored = Scored([], [], [])
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
        whole, _ = await asking.api.chat(body)
        await asking.progress(1)
        ids = prompt_token_ids(whole)
        logprobs = prompt_logprobs(whole, ids)
        start = common_prefix_length(prompt_ids, ids)
        scored.per_token.append(logprobs[start:])
        scored.logps.append(sum(logprobs[start:]))
        scored.tokens.append(len(ids) - start)
    return scored


def prompt_token_ids(answer: dict[str, Any]) -> list[int]:
    """Return the prompt's token ids. Raises `EvaluationError` where the endpoint gave none."""
    ids = answer.get("prompt_token_ids")
    if not isinstance(ids, list) or not ids:
        raise EvaluationError("the endpoint returned no prompt_token_ids (return_token_ids is not supported)")
    return ids


def entries_of(answer: dict[str, Any], ids: Sequence[int]) -> list[dict[str, Any] | None]:
    """Return what the endpoint says of each prompt token. Raises `EvaluationError` where it says nothing."""
    entries = answer.get("prompt_logprobs")
    if not isinstance(entries, list) or len(entries) != len(ids):
        raise EvaluationError("the endpoint returned no prompt_logprobs for the prompt's tokens")
    return entries


def prompt_logprobs(answer: dict[str, Any], ids: Sequence[int]) -> list[float]:
    """Return the log-probability of each prompt token, 0 for the first."""
    entries = zip(entries_of(answer, ids), ids, strict=True)
    return [0.0 if entry is None else float(entry[str(i)]["logprob"]) for entry, i in entries]
