"""Other people's formats: how each row becomes `{prompt, chosen, rejected}`, `{messages}` or `{prompt, completion, label}`.

Pairs: trl (standard and conversational; also plain CSV), hh-rlhf, ultrafeedback (binarised and scored), lmarena,
openwebui, argilla, openai. Demonstrations: sharegpt, openai, alpaca, trl. Likes: kto, openwebui. A row that states
no preference (a tie, equal scores) is refused with that reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from store.db.validation import a_list, an_object, finite, whole
from store.errors import Invalid
from store.transfer import argilla, json_rows, openwebui

Row = Mapping[str, Any]
Convert = Callable[[Row], Row]

_TURN = re.compile(r"\n\n(Human|Assistant):")
_SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "bing": "assistant", "bard": "assistant", "model": "assistant", "system": "system", "tool": "tool",
}  # fmt: skip


def as_is(row: Row) -> Row:
    """TRL's own columns, in text or message lists."""
    return row


def hh_rlhf(row: Row) -> Row:
    """Anthropic HH-RLHF: two transcripts that begin alike."""
    return {
        **_extra(row),
        "chosen": transcript(row.get("chosen"), "chosen"),
        "rejected": transcript(row.get("rejected"), "rejected"),
    }


def transcript(text: object, field: str) -> list[dict[str, str]]:
    """Read "\\n\\nHuman: …\\n\\nAssistant: …" into messages. Raises `Invalid` naming `field`."""
    if not isinstance(text, str) or not _TURN.search(text):
        raise Invalid(field, text, 'a transcript of "\\n\\nHuman: …\\n\\nAssistant: …"')
    parts = _TURN.split(text)
    if parts[0].strip():
        raise Invalid(field, parts[0], 'a transcript that begins with "\\n\\nHuman:"')
    return [
        {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def ultrafeedback(row: Row) -> Row:
    """UltraFeedback: binarised (chosen, rejected with scores) or scored completions, best against worst."""
    return _scored(row) if "completions" in row else _binarised(row)


def _scored(row: Row) -> Row:
    scored = []
    for place, item in enumerate(a_list("completions", row["completions"])):
        where = f"completions[{place}]"
        item = an_object(where, item)
        score = _score(item, where)
        if score is not None and isinstance(item.get("response"), str):
            scored.append((score, item["response"]))
    if len(scored) < 2:
        raise Invalid("completions", len(scored), "at least two completions with a response and a score")
    best, worst = max(scored, key=lambda s: s[0]), min(scored, key=lambda s: s[0])
    if best[0] == worst[0]:
        raise Invalid("completions", best[0], "completions with different scores: this is a tie")
    return {"prompt": row.get("instruction"), "chosen": best[1], "rejected": worst[1]}


def _binarised(row: Row) -> Row:
    scores = row.get("score_chosen"), row.get("score_rejected")
    if None not in scores:
        better, worse = finite("score_chosen", scores[0]), finite("score_rejected", scores[1])
        if better <= worse:
            why = "this is a tie" if better == worse else f"that is {worse:g}, so the row contradicts itself"
            raise Invalid("score_chosen", scores[0], f"a score above score_rejected: {why}")
    kept = {key: row[key] for key in ("prompt", "chosen", "rejected", "weight", "tags") if key in row}
    turns = row.get("prompt_turns")
    if isinstance(row.get("chosen"), list):
        kept.pop("prompt", None)  # the last question alone; the messages have all
        if turns is not None:
            turns = whole("prompt_turns", turns, 1, 1_000_000)
            chosen, rejected = row["chosen"], a_list("rejected", row.get("rejected"))
            kept |= {"prompt": chosen[:turns], "chosen": chosen[turns:], "rejected": rejected[turns:]}
    return kept


def lmarena(row: Row) -> Row:
    """LMArena battles: conversations of two models and the winner."""
    winner = row.get("winner")
    if winner is None:
        flags = [name for name in ("model_a", "model_b", "tie") if _true(row.get(f"winner_{name}"))]
        winner = flags[0] if len(flags) == 1 else None
    if winner not in ("model_a", "model_b"):
        raise Invalid("winner", winner, "model_a or model_b (a tie prefers neither)")
    if "conversation_a" in row:
        a, b = row["conversation_a"], row.get("conversation_b")
    else:
        asked, a, b = (_turns(row.get(key), key) for key in ("prompt", "response_a", "response_b"))
        a, b = (
            [
                m
                for ask, said in zip(asked, side, strict=False)
                for m in (_message("user", ask), _message("assistant", said))
            ]
            for side in (a, b)
        )
    first, second = (a, b) if winner == "model_a" else (b, a)
    return {"chosen": first, "rejected": second}


def openai_pairs(row: Row) -> Row:
    """OpenAI preference fine-tuning."""
    given = row.get("input")
    if not isinstance(given, Mapping):
        raise Invalid("input", given, "an object with messages")
    return {
        "prompt": given.get("messages"),
        "chosen": row.get("preferred_output"),
        "rejected": row.get("non_preferred_output"),
    }


def sharegpt(row: Row) -> Row:
    """ShareGPT: `conversations` of {from, value}; up to its last answer."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise Invalid(
            "conversations", turns, "a list of {from, value} with at least a question and an answer"
        )
    messages = []
    for place, turn in enumerate(turns):
        who = turn.get("from") if isinstance(turn, Mapping) else None
        if not isinstance(who, str) or who not in _SHAREGPT_ROLES:
            raise Invalid(f"conversations[{place}].from", who, sorted(_SHAREGPT_ROLES))
        messages.append({"role": _SHAREGPT_ROLES[who], "content": turn.get("value")})
    while messages and messages[0]["role"] == "assistant":
        messages.pop(0)
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if len(messages) < 2:
        raise Invalid("conversations", len(turns), "a question and an answer to it")
    return {**_extra(row), "messages": messages}


def openai_chat(row: Row) -> Row:
    """OpenAI chat fine-tuning: `messages` ending with the assistant."""
    return {**_extra(row), "messages": row.get("messages")}


def alpaca(row: Row) -> Row:
    """Alpaca: instruction, optional input, output."""
    parts = [
        part for part in (row.get("instruction"), row.get("input")) if isinstance(part, str) and part.strip()
    ]
    return {"prompt": "\n\n".join(parts) or None, "completion": row.get("output")}


FORMATS: dict[str, dict[str, Convert]] = {
    "pairs": {
        "trl": as_is,
        "hh-rlhf": hh_rlhf,
        "ultrafeedback": ultrafeedback,
        "lmarena": lmarena,
        "openwebui": openwebui.pairs,
        "argilla": argilla.pairs,
        "openai": openai_pairs,
    },
    "demonstrations": {"trl": as_is, "sharegpt": sharegpt, "openai": openai_chat, "alpaca": alpaca},
    "likes": {"kto": as_is, "openwebui": openwebui.likes},
}


def detect(noun: str, row: Row) -> str:
    """Return the name of the format that a row of `noun` is in; raises `Invalid` listing those there are."""
    keys, chosen = set(row), row.get("chosen")
    tests: dict[str, list[tuple[str, bool]]] = {
        "pairs": [
            ("openai", "preferred_output" in keys),
            ("argilla", {"fields", "responses"} <= keys or argilla.is_flat(row)),
            ("lmarena", "conversation_a" in keys or {"response_a", "response_b"} <= keys),
            ("openwebui", {"data", "snapshot"} <= keys),
            ("ultrafeedback", {"instruction", "completions"} <= keys or "score_chosen" in keys),
            ("hh-rlhf", isinstance(chosen, str) and "prompt" not in keys and chosen.startswith("\n\nHuman:")),
            ("trl", {"chosen", "rejected"} <= keys),
        ],
        "demonstrations": [
            ("sharegpt", "conversations" in keys),
            ("alpaca", {"instruction", "output"} <= keys),
            ("trl", "completion" in keys),
            ("openai", "messages" in keys),
        ],
        "likes": [("openwebui", {"data", "snapshot"} <= keys), ("kto", "label" in keys)],
    }
    for name, fits in tests[noun]:
        if fits:
            return name
    raise Invalid("format", sorted(keys), f"rows of {noun} in one of: {', '.join(FORMATS[noun])}")


def _extra(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in ("weight", "tags") if key in row}


def _message(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


def _true(value: object) -> bool:
    return value in (1, True, "1", "true", "True")


def _turns(value: object, field: str) -> list[object]:
    """Read a list of turns, which the 55k release of LMArena keeps as JSON text."""
    if isinstance(value, str):
        with suppress(Invalid):
            turns = json_rows.parse(value, field)
            if isinstance(turns, list):
                return turns
    return value if isinstance(value, list) else [value]


def _score(item: Mapping[str, Any], where: str) -> float | None:
    for key in ("overall_score", "fine-grained_score", "score"):
        if item.get(key) is not None:
            return finite(f"{where}.{key}", item[key])
    return None
