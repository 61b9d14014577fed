"""Drift on neutral texts: perplexity, and the divergence of the release from the one beside it.

The divergence is KL(stable || new) over the tokens that both releases list among their 20 likeliest, and the rest as one
outcome: a lower bound of the true one at each position, without sampling noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from align.evaluation import neutral
from align.evaluation.answering.asking import Asking, complete
from align.evaluation.items import NEUTRAL, Item, by_item, paired
from align.evaluation.measures import Measures
from align.evaluation.scoring import entries_of, prompt_logprobs, prompt_token_ids
from align.stats import mean_interval
from common.sequences import common_prefix_length

LISTED = 20
_ASKED = [{"role": "user", "content": "Write a short text."}]

Position = Mapping[int, float]
"""Log-probabilities by token id, at one place of a text."""


@dataclass(frozen=True)
class ReadText:
    """One release's view of one text."""

    ids: list[int]
    logps: list[float]
    listed: Sequence[Position]


async def measure_texts(asking: Asking, count: int) -> tuple[list[Item], list[str]]:
    """Have every release read the texts; return the items and why texts were refused."""
    texts = neutral.draw("text", count, asking.seed)
    found = await asking.together([("prompt", _ask_prompt(asking))], *asking.models)
    prompts, refused = complete(found, len(asking.models))
    if refused:
        return [], list(refused.values())
    start = prompts["prompt"]
    asks = [(entry.id, _ask_text(asking, entry.text, start)) for entry in texts]
    kept, refused = complete(await asking.together(asks, *asking.models), len(asking.models))
    items = []
    for name, sides in kept.items():
        blank = Item("text", NEUTRAL + name, name, "release", NEUTRAL + name)
        for side, read in sides.items():
            value = -sum(read.logps) / len(read.logps)
            detail = {"logps": read.logps}
            items.append(replace(blank, side=side, tokens=len(read.ids), value=value, detail=detail))
        for new, old in asking.beside:
            divergences = _divergences(sides.get(new), sides.get(old))
            if divergences:
                value, detail = sum(divergences) / len(divergences), {"per_token": divergences}
                items.append(replace(blank, measure="kl", side=new, value=value, detail=detail))
    return items, list(refused.values())


def _ask_prompt(asking: Asking) -> Any:
    async def ids(side: str, model: str) -> list[int]:
        body = {
            "model": model,
            "messages": _ASKED,
            "max_tokens": 1,
            "temperature": 0.0,
            "return_token_ids": True,
        }
        answer, _ = await asking.api.chat(body)
        await asking.progress(1)
        return prompt_token_ids(answer)

    return ids


def _ask_text(asking: Asking, text: str, start: Mapping[str, list[int]]) -> Any:
    async def read(side: str, model: str) -> ReadText:
        body = {
            "model": model,
            "messages": [*_ASKED, {"role": "assistant", "content": text}],
            "max_tokens": 1,
            "temperature": 0.0,
            "return_token_ids": True,
            "prompt_logprobs": LISTED,
            "add_generation_prompt": False,
            "continue_final_message": True,
        }
        answer, _ = await asking.api.chat(body)
        await asking.progress(1)
        ids = prompt_token_ids(answer)
        first = max(1, common_prefix_length(start[side], ids))  # nothing is said of the first token
        listed = [
            {int(token): float(said["logprob"]) for token, said in (entry or {}).items()}
            for entry in entries_of(answer, ids)
        ]
        return ReadText(ids[first:], prompt_logprobs(answer, ids)[first:], listed[first:])

    return read


def _divergences(new: ReadText | None, old: ReadText | None) -> list[float]:
    """Return KL(old || new) at each place; nothing where they read other tokens."""
    if new is None or old is None or new.ids != old.ids:
        return []
    return [coarse_kl(p, q) for p, q in zip(old.listed, new.listed, strict=True)]


def coarse_kl(p: Position, q: Position) -> float:
    """Return KL(p || q) over the tokens that both list, all others as one outcome."""
    both = p.keys() & q.keys()
    rest_p = max(1e-9, 1 - sum(math.exp(p[token]) for token in both))
    rest_q = max(1e-9, 1 - sum(math.exp(q[token]) for token in both))
    terms = sum(math.exp(p[token]) * (p[token] - q[token]) for token in both)
    return max(0.0, terms + rest_p * (math.log(rest_p) - math.log(rest_q)))


def measure_drift(items: Sequence[Item]) -> Measures:
    """Return perplexities, their paired ratios to stable's and the anchor's, and the divergence from stable."""
    found = by_item(items, "text")
    measures: Measures = {}
    for side in ("release", "against", "anchor"):
        own = [item for (item,) in paired(found, side)]
        if own:
            interval = mean_interval([item.value or 0.0 for item in own])
            measures.setdefault("perplexity", {})[side] = _exponential(interval)
    for side, name in (("against", "perplexity_ratio"), ("anchor", "anchor_perplexity_ratio")):
        both = paired(found, "release", side)
        if both:
            rises = [(new.value or 0.0) - (old.value or 0.0) for new, old in both]
            measures[name] = {"release": _exponential(mean_interval(rises))}
    divergences = [item.value or 0.0 for (item,) in paired(by_item(items, "kl"), "release")]
    if divergences:
        measures["kl"] = {"release": mean_interval(divergences)}
    return measures


def _exponential(interval: dict[str, Any]) -> dict[str, Any]:
    ends = ("value", "low", "high")
    return {
        name: value if name not in ends or value is None else math.exp(min(700.0, value))
        for name, value in interval.items()
    }


def measure_surprise(of_rows: Measures, of_texts: Measures) -> Measures:
    """Return how much less likely stable finds demonstrations than neutral texts, nats per token.

    Of held-out rows that were not chosen among two (`loss` without `reward_margin`): text that a language model finds far
    less likely than plain prose is noise, whatever a run has made of it. Empty where either was not measured.
    """
    said, read = of_rows.get("loss", {}).get("against"), of_texts.get("perplexity", {}).get("against")
    if said is None or read is None or "reward_margin" in of_rows or None in (*said.values(), *read.values()):
        return {}
    plain = {end: math.log(read[end]) for end in ("value", "low", "high")}
    value = said["value"] - plain["value"]
    # Both are independent: their half widths add as squares do.
    below = math.hypot(said["value"] - said["low"], plain["high"] - plain["value"])
    above = math.hypot(said["high"] - said["value"], plain["value"] - plain["low"])
    found = {"value": value, "low": value - below, "high": value + above, "n": min(said["n"], read["n"])}
    return {"demonstration_surprise": {"release": found}}
