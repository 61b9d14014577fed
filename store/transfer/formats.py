"""Other people's formats: how each row becomes `{prompt, chosen, rejected}`, `{messages}` or `{prompt, completion, label}`.

Pairs: trl (standard and conversational, with any of the columns of store.transfer.columns; also plain CSV),
hh-rlhf, ultrafeedback
(binarised and scored), lmarena, openwebui, argilla, openai, and those of store.transfer.public_sets.
Demonstrations: sharegpt, capybara, openai, alpaca, trl. Likes: kto, openwebui. Both also from traces
(store.transfer.traces). A row that states no preference (a tie, equal scores) is refused with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from store import import_notes, message_text
from store.db.validation import a_list, an_object, finite, whole
from store.errors import Invalid
from store.transfer import argilla, columns, json_rows, openwebui, public_sets, standard_rows, traces

Row = Mapping[str, Any]
Convert = Callable[[Row], Row]


def hh_rlhf(row: Row) -> Row:
    """Anthropic HH-RLHF: two transcripts that begin alike."""
    sides = {name: transcript(row.get(name), name) for name in ("chosen", "rejected")}
    return standard_rows.paired(row, sides["chosen"], sides["rejected"])


def transcript(text: object, field: str) -> list[dict[str, Any]]:
    """Read "\\n\\nHuman: …\\n\\nAssistant: …" into messages. Raises `Invalid` naming `field`."""
    turns = message_text.transcript(text, field) if isinstance(text, str) else None
    if turns is None:
        raise Invalid(
            field, text, 'a transcript that begins with "\\n\\nHuman:": "\\n\\nHuman: …\\n\\nAssistant: …"'
        )
    import_notes.rule("transcript")
    return turns


def ultrafeedback(row: Row) -> Row:
    """UltraFeedback: binarised (chosen, rejected with scores) or scored completions, best against worst."""
    return _scored(row) if "completions" in row else _binarised(row)


def _scored(row: Row) -> Row:
    items = [
        (f"completions[{place}]", an_object(f"completions[{place}]", item))
        for place, item in enumerate(a_list("completions", row["completions"]))
    ]
    items = [(where, item) for where, item in items if isinstance(item.get("response"), str)]
    # Overall scores of 10 are known to be wrong for poor answers; the ratings by aspect are not.
    keys = ("fine-grained_score", "overall_score", "score")
    found = {key: [place for place in items if place[1].get(key) is not None] for key in keys}
    most = max(map(len, found.values()), default=0)
    key = next(key for key in keys if len(found[key]) == most)
    if key == keys[0] and found[keys[1]]:
        import_notes.rule("fine_grained_scores")
    scored = [(finite(f"{where}.{key}", item[key]), item["response"]) for where, item in found[key]]
    return public_sets.best_against_worst(row, scored, "completions", "score")


def _binarised(row: Row) -> Row:
    turns = row.get("prompt_turns")
    if turns is None or not isinstance(row.get("chosen"), list):
        return standard_rows.pair(row)
    columns.check_preference(row)
    turns = whole("prompt_turns", turns, 1, 1_000_000)
    chosen, rejected = row["chosen"], a_list("rejected", row.get("rejected"))
    return {
        **standard_rows.extra(row),
        "prompt": chosen[:turns],
        "chosen": chosen[turns:],
        "rejected": rejected[turns:],
    }


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
        "tools": given.get("tools"),
        "prompt": given.get("messages"),
        "chosen": row.get("preferred_output"),
        "rejected": row.get("non_preferred_output"),
    }


def sharegpt(row: Row) -> Row:
    """ShareGPT: `conversations` of {from, value}; up to its last answer."""
    turns = row.get("conversations")
    if not isinstance(turns, list | str) or not turns:
        raise Invalid(
            "conversations", turns, "a list of {from, value} with at least a question and an answer"
        )
    read = standard_rows.conversation(row, "conversations")
    messages = [
        message_text.as_openai(an_object(f"conversations[{place}]", turn), f"conversations[{place}]")
        for place, turn in enumerate(read["messages"])
    ]
    while messages and messages[0].get("role") == "assistant":
        messages.pop(0)
    while messages and messages[-1].get("role") != "assistant":
        messages.pop()
    if len(messages) < 2:
        raise Invalid("conversations", len(turns), "a question and an answer to it")
    return {**read, "messages": messages}


def capybara(row: Row) -> Row:
    """Capybara, XTuner, ms-swift: `conversation` of exchanges, {input, output} or {human, assistant}."""
    return standard_rows.conversation(row, "conversation")


def openai_chat(row: Row) -> Row:
    """OpenAI chat fine-tuning: `messages` ending with the assistant."""
    return standard_rows.conversation(row, "messages")


def alpaca(row: Row) -> Row:
    """Alpaca and the like: a question in columns (instruction and input, prompt, query, …), and its answer in another."""
    if public_sets.is_helpsteer(row):
        raise Invalid(
            "response",
            "a rated response",
            f"answers to learn from: the columns response and {', '.join(public_sets.HELPSTEER_RATINGS)} rate answers",
        )
    return standard_rows.demonstration(row)


FORMATS: dict[str, dict[str, Convert]] = {
    "pairs": {
        "trl": standard_rows.pair,
        "hh-rlhf": hh_rlhf,
        "ultrafeedback": ultrafeedback,
        "lmarena": lmarena,
        "openwebui": openwebui.pairs,
        "argilla": argilla.pairs,
        "openai": openai_pairs,
        "helpsteer": public_sets.helpsteer,
        "pku-saferlhf": public_sets.pku,
        "nectar": public_sets.nectar,
        "distilabel": public_sets.distilabel,
        "ms-swift": public_sets.ms_swift,
    },
    "demonstrations": {
        "trl": standard_rows.demonstration,
        "sharegpt": sharegpt,
        "capybara": capybara,
        "openai": openai_chat,
        "alpaca": alpaca,
        "langfuse": traces.langfuse_demonstration,
        "langsmith": traces.langsmith_demonstration,
        "otel": traces.otel_demonstrations,
    },
    "likes": {
        "kto": standard_rows.judged,
        "openwebui": openwebui.likes,
        "langfuse": traces.langfuse_like,
        "langsmith": traces.langsmith_like,
        "otel": traces.otel_likes,
    },
}


STANDARD = {
    "pairs": standard_rows.pair, "demonstrations": standard_rows.demonstration, "likes": standard_rows.judged,
}  # fmt: skip
"""How a row with our own columns is read, by noun."""


def detect(noun: str, row: Row) -> str:
    """Return the name of the format that a row of `noun` is in; raises `Invalid` listing those there are."""
    row = columns.named(row)
    keys, chosen = set(row), row.get("chosen")
    answers = {"response_0", "response_1"} <= keys
    traced = [
        ("otel", traces.is_otel(row)),
        ("langsmith", {"inputs", "outputs"} <= keys),
        ("langfuse", {"input", "output"} <= keys and not keys.isdisjoint(traces.LANGFUSE)),
    ]
    tests: dict[str, list[tuple[str, bool]]] = {
        "pairs": [
            ("openai", "preferred_output" in keys),
            ("argilla", {"fields", "responses"} <= keys or argilla.is_flat(row)),
            ("helpsteer", public_sets.is_helpsteer(row)),
            ("pku-saferlhf", answers and bool({"better_response_id", "safer_response_id"} & keys)),
            ("ms-swift", bool({"rejected_response", "rejected_messages"} & keys)),
            ("lmarena", "conversation_a" in keys or {"response_a", "response_b"} <= keys),
            ("openwebui", {"data", "snapshot"} <= keys),
            (
                "ultrafeedback",
                {"instruction", "completions"} <= keys or ("score_chosen" in keys and "chosen" in keys),
            ),
            ("hh-rlhf", isinstance(chosen, str) and "prompt" not in keys and chosen.startswith("\n\nHuman:")),
            ("trl", {"chosen", "rejected"} <= keys),
            ("nectar", "answers" in keys and "prompt" in keys),
            ("distilabel", "generations" in keys and bool({"ratings", "rating"} & keys)),
        ],
        "demonstrations": [
            *traced,
            ("sharegpt", "conversations" in keys),
            ("capybara", "conversation" in keys),
            ("trl", "completion" in keys),
            ("openai", "messages" in keys),
            ("alpaca", bool(keys & set(columns.QUESTIONS)) and bool(keys & set(standard_rows.ANSWERS))),
        ],
        "likes": [
            ("openwebui", {"data", "snapshot"} <= keys),
            ("kto", bool({"label", "kto_tag"} & keys)),
            *traced,
        ],
    }
    for name, fits in tests[noun]:
        if fits:
            return name
    raise Invalid(
        "format",
        sorted(map(str, keys)),
        f"{_WANTED[noun](keys)}, or rows in one of: {', '.join(FORMATS[noun])}",
    )


def _missing(keys: set[str], wanted: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in keys]
    return f"the columns {', '.join(wanted)} (missing: {', '.join(missing)})"


_WANTED: dict[str, Callable[[set[str]], str]] = {
    "pairs": lambda keys: _missing(keys, ("prompt", "chosen", "rejected")),
    "demonstrations": lambda keys: _missing(keys, ("prompt", "completion")),
    "likes": lambda keys: _missing(keys, ("prompt", "completion", "label")),
}


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
