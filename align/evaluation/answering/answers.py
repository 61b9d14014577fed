"""Answers that the releases generate side by side, as people would get them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from align.evaluation import instructions, neutral
from align.evaluation.answering.asking import Asking, complete
from align.evaluation.answering.chat_api import choice_of
from align.evaluation.health import language_of
from align.evaluation.items import NEUTRAL, Item, digest
from align.evaluation.measures import cluster_of
from align.evaluation.scoring import reference_of
from align.evaluation.suite_file import Answers, Instructions

GREEDY = {"temperature": 0.0}


@dataclass(frozen=True)
class Prompt:
    """One prompt to answer: where it is from, and the cluster that it belongs to."""

    reference: str | None
    cluster: str
    kind: str
    messages: list[dict[str, Any]]


def choose_prompts(plan: Answers, rows: Sequence[dict[str, Any]], seed: str) -> list[Prompt]:
    """Return the held-out clusters' prompts, one each, and those of the neutral set."""
    clusters: dict[str, dict[str, Any]] = {}
    for row in rows:
        clusters.setdefault(digest(cluster_of(row)), row)
    prompts = [
        Prompt(reference_of(row), cluster, "heldout", row["prompt"])
        for cluster, row in list(clusters.items())[: plan.heldout]
    ]
    for kind in ("general", "harmless", "safety"):
        for entry in neutral.draw(kind, getattr(plan, kind), seed):
            prompts.append(Prompt(NEUTRAL + entry.id, NEUTRAL + entry.id, kind, _asked(entry.text)))
    return prompts


async def measure_answers(
    asking: Asking, plan: Answers, prompts: Sequence[Prompt], caps: Mapping[str, int]
) -> tuple[list[Item], list[str]]:
    """Have every prompt answered by both releases in turn; return the items and why prompts were refused.

    `caps` are the most tokens that the releases themselves answer with, by model name.
    """
    samplings: dict[str, dict[str, Any]] = {f"seed {n}": {"seed": n} for n in range(1, plan.seeds + 1)}
    if plan.greedy:
        samplings["greedy"] = GREEDY
    items, refused = await _generate(asking, "answer", prompts, samplings, plan.max_tokens, caps)
    said = {prompt.cluster: str(prompt.messages[-1].get("content", "")) for prompt in prompts}
    return await asyncio.to_thread(_with_languages, items, said), refused


async def measure_instructions(
    asking: Asking, plan: Instructions, caps: Mapping[str, int]
) -> tuple[list[Item], list[str]]:
    """Have generated instructions answered at temperature 0; an item's value is the share of its rules that are followed."""
    chosen = {f"{n}": one for n, one in enumerate(instructions.generate(plan.prompts, asking.seed))}
    prompts = [
        Prompt(f"{instructions.REFERENCE}-{n}", f"{instructions.REFERENCE}-{n}", n, _asked(one.prompt))
        for n, one in chosen.items()
    ]
    items, refused = await _generate(
        asking, "instruction", prompts, {"greedy": GREEDY}, plan.max_tokens, caps
    )
    judged = []
    for item in items:
        one = chosen[item.detail["kind"]]
        kept = await asyncio.to_thread(instructions.followed, item.answer or "", one.rules)
        detail = {**item.detail, "prompt": one.prompt, "rules": list(one.rules), "followed": kept}
        judged.append(replace(item, value=sum(kept) / len(kept), detail=detail))
    return judged, refused


async def _generate(
    asking: Asking,
    measure: str,
    prompts: Sequence[Prompt],
    samplings: Mapping[str, dict[str, Any]],
    max_tokens: int,
    caps: Mapping[str, int],
) -> tuple[list[Item], list[str]]:
    def ask(prompt: Prompt, name: str, sampling: Mapping[str, Any]) -> Any:
        async def answered(side: str, model: str) -> Item:
            limit = min(max_tokens, caps.get(model, max_tokens))
            body = {"model": model, "messages": prompt.messages, "max_tokens": limit, **sampling}
            answer, seconds, first = await asking.api.stream(body)
            await asking.progress(1)
            detail: dict[str, Any] = {
                "kind": prompt.kind,
                "sampling": name.rpartition(" / ")[2],
                "max_tokens": limit,
            }
            detail |= {} if first is None else {"first_token_s": first}
            item = Item(measure, prompt.cluster, name, side, prompt.reference, seconds=seconds, detail=detail)
            return _read(item, answer)

        return answered

    asks = []
    for place, prompt in enumerate(prompts):
        for sampling, body in samplings.items():
            name = f"{prompt.reference or place} / {sampling}"
            asking.prompts[name] = prompt.messages
            asks.append((name, ask(prompt, name, body)))
    sides = asking.sides(*asking.generating)
    kept, refused = complete(await asking.together(asks, *sides), len(sides))
    return [item for one in kept.values() for item in one.values()], list(refused.values())


def _asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _read(item: Item, answer: dict[str, Any]) -> Item:
    """Return the item with what a chat completion says; one without choices is an empty answer."""
    choice = choice_of(answer)
    message = choice.get("message") or {}
    calls = message.get("tool_calls")
    # without their ids, which differ from answer to answer
    text = message.get("content") or (json.dumps([call["function"] for call in calls]) if calls else "")
    tokens = (answer.get("usage") or {}).get("completion_tokens")
    return replace(item, answer=str(text), finish_reason=choice.get("finish_reason"), tokens=tokens)


def _with_languages(items: Sequence[Item], said: Mapping[str, str]) -> list[Item]:
    """Note the language of each answer and of its prompt, where they are long enough to tell."""
    asked = {cluster: language_of(text, 20) for cluster, text in said.items()}
    return [
        replace(
            item,
            detail={
                **item.detail,
                "language": language_of(item.answer or "", 60),
                "prompt_language": asked[item.cluster],
            },
        )
        for item in items
    ]
