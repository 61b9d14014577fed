"""Other people's formats: how each row becomes `{prompt, chosen, rejected}`, `{messages}` or `{prompt, completion, label}`.

Pairs: trl (standard and conversational; also plain CSV), hh-rlhf, ultrafeedback (binarised and scored), lmarena,
openwebui, argilla, openai. Demonstrations: sharegpt, openai, alpaca, trl. Likes: kto, openwebui. A row that states
no preference (a tie, equal scores) is refused with that reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from store.errors import Invalid

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
        "chosen": transcript(row.get("chosen")),
        "rejected": transcript(row.get("rejected")),
    }


def transcript(text: object) -> list[dict[str, str]]:
    """Read "\\n\\nHuman: …\\n\\nAssistant: …" into messages."""
    if not isinstance(text, str) or not _TURN.search(text):
        raise Invalid("chosen", text, 'a transcript of "\\n\\nHuman: …\\n\\nAssistant: …"')
    parts = _TURN.split(text)
    if parts[0].strip():
        raise Invalid("chosen", parts[0], 'a transcript that begins with "\\n\\nHuman:"')
    return [
        {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def ultrafeedback(row: Row) -> Row:
    """UltraFeedback: binarised (chosen, rejected with scores) or scored completions, best against worst."""
    if "completions" not in row:
        if row.get("score_chosen") is not None and row.get("score_chosen") == row.get("score_rejected"):
            raise Invalid("score_chosen", row["score_chosen"], "a score above score_rejected: this is a tie")
        kept = {key: row[key] for key in ("chosen", "rejected", "weight", "tags") if key in row}
        turns = row.get("prompt_turns")
        if (
            isinstance(turns, int)
            and isinstance(row.get("chosen"), list)
            and isinstance(row.get("rejected"), list)
        ):
            return {
                **kept,
                "prompt": row["chosen"][:turns],
                "chosen": row["chosen"][turns:],
                "rejected": row["rejected"][turns:],
            }
        if not isinstance(row.get("chosen"), list):
            kept["prompt"] = row.get("prompt")
        return kept
    scored = [
        (float(score), item["response"])
        for item in row["completions"] or ()
        if isinstance(item, Mapping)
        and isinstance(item.get("response"), str)
        and (score := _score(item)) is not None
    ]
    if len(scored) < 2:
        raise Invalid("completions", len(scored), "at least two completions with a response and a score")
    best, worst = max(scored, key=lambda s: s[0]), min(scored, key=lambda s: s[0])
    if best[0] == worst[0]:
        raise Invalid("completions", best[0], "completions with different scores: this is a tie")
    return {"prompt": row.get("instruction"), "chosen": best[1], "rejected": worst[1]}


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


def openwebui_pairs(row: Row) -> Row:
    """Open WebUI feedback on an answer that has a sibling: the liked one is chosen."""
    prompt, rated, sibling, liked = _openwebui(row)
    if sibling is None:
        raise Invalid(
            "snapshot", "one answer", "an answer with a sibling to prefer (import single ratings as likes)"
        )
    chosen, rejected = (rated, sibling) if liked else (sibling, rated)
    tags = row["data"].get("tags")
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "tags": tags if isinstance(tags, list) else None,
    }


def openwebui_likes(row: Row) -> Row:
    """Open WebUI feedback on one answer."""
    prompt, rated, _, liked = _openwebui(row)
    return {"prompt": prompt, "completion": rated, "label": liked}


def argilla(row: Row) -> Row:
    """Argilla records: two response fields and the annotators' submitted preference, by majority."""
    fields, responses = row.get("fields"), row.get("responses")
    if not isinstance(fields, Mapping) or not responses:
        raise Invalid("responses", responses, "a record with fields and submitted responses")
    sides = sorted(
        name
        for name in fields
        if re.search(r"respon|generation|answer|completion|chosen|rejected", name, re.I)
    )
    asked = [name for name in fields if name not in sides]
    if len(sides) != 2 or not asked:
        raise Invalid("fields", list(fields), "a prompt field and two response fields")
    votes = Counter(
        side for value in _argilla_values(responses) if (side := _argilla_side(value, sides)) is not None
    )
    if not votes or votes[0] == votes[1]:
        raise Invalid("responses", dict(votes), "a majority for one of the two responses")
    first, second = (sides[0], sides[1]) if votes[0] > votes[1] else (sides[1], sides[0])
    margin = abs(votes[0] - votes[1]) / (votes[0] + votes[1])
    return {"prompt": fields[asked[0]], "chosen": fields[first], "rejected": fields[second], "weight": margin}


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
        if who not in _SHAREGPT_ROLES:
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
        "openwebui": openwebui_pairs,
        "argilla": argilla,
        "openai": openai_pairs,
    },
    "demonstrations": {"trl": as_is, "sharegpt": sharegpt, "openai": openai_chat, "alpaca": alpaca},
    "likes": {"kto": as_is, "openwebui": openwebui_likes},
}


def detect(noun: str, row: object) -> str:
    """Return the name of the format that a row of `noun` is in; raises `Invalid` listing those there are."""
    keys = set(row) if isinstance(row, Mapping) else set()
    chosen = row.get("chosen") if isinstance(row, Mapping) else None
    tests: dict[str, list[tuple[str, bool]]] = {
        "pairs": [
            ("openai", "preferred_output" in keys),
            ("lmarena", "conversation_a" in keys or {"response_a", "response_b"} <= keys),
            ("openwebui", {"data", "snapshot"} <= keys),
            ("argilla", {"fields", "responses"} <= keys),
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
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    return value if isinstance(value, list) else [value]


def _score(item: Mapping[str, Any]) -> float | None:
    for key in ("overall_score", "fine-grained_score", "score"):
        value = item.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _openwebui(row: Row) -> tuple[list[dict[str, Any]], str, str | None, bool]:
    """Return the messages before the rated answer, that answer, a sibling or None, and whether it was liked."""
    data, meta, snapshot = row.get("data"), row.get("meta"), row.get("snapshot")
    rating = data.get("rating") if isinstance(data, Mapping) else None
    if str(rating) not in ("1", "-1"):
        raise Invalid("data.rating", rating, "1 or -1")
    try:
        chat = snapshot["chat"]  # type: ignore[index]
        history = (chat.get("chat") or chat)["history"]["messages"]
        rated = history[meta["message_id"]]  # type: ignore[index]
    except (KeyError, TypeError, AttributeError):
        raise Invalid(
            "snapshot", "…", "the chat with history.messages, and meta.message_id among them"
        ) from None
    siblings = [
        other
        for other in history.values()
        if other.get("parentId") == rated.get("parentId")
        and other.get("role") == "assistant"
        and other is not rated
    ]
    prompt, parent = [], rated.get("parentId")
    while parent in history:
        prompt.append(_message(history[parent].get("role"), history[parent].get("content")))
        parent = history[parent].get("parentId")
    sibling = siblings[0].get("content") if siblings else None
    return prompt[::-1], rated.get("content"), sibling, str(rating) == "1"


def _argilla_values(responses: object) -> list[Any]:
    """Return the submitted values, of Argilla 2 ({question: [{value}]}) and 1 ([{values: {question: {value}}}])."""
    found = []
    if isinstance(responses, Mapping):
        for answers in responses.values():
            found += [a.get("value") for a in answers or () if a.get("status", "submitted") == "submitted"]
    elif isinstance(responses, list):
        for response in responses:
            if response.get("status", "submitted") == "submitted":
                found += [answer.get("value") for answer in (response.get("values") or {}).values()]
    return found


def _argilla_side(value: object, sides: list[str]) -> int | None:
    """Return which side a value prefers: its field's name, a ranking of both, or 1, 2, A, B."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        ranks = {item.get("value"): item.get("rank") for item in value}
        one, other = ranks.get(sides[0]), ranks.get(sides[1])
        return None if one is None or other is None or one == other else int(one > other)
    text = str(value).strip().lower()
    for place, names in enumerate((("1", "a"), ("2", "b"))):
        if text in (*names, sides[place].lower()):
            return place
    return None
