"""Rows as others write them: every shape of every format says the question Q with the answers "good" and "bad"."""

from __future__ import annotations

from typing import Any

from store.values import Message, to_json

TRL = {"prompt": "Q", "chosen": "good", "rejected": "bad"}


def turns(*texts: str) -> list[dict[str, str]]:
    return to_json(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts))


OPENWEBUI = {
    "id": "f1",
    "type": "rating",
    "data": {"rating": 1, "model_id": "m", "tags": ["kind"]},
    "meta": {"message_id": "3"},
    "snapshot": {
        "chat": {
            "chat": {
                "history": {
                    "currentId": "3",
                    "messages": {
                        "1": {"id": "1", "parentId": None, "role": "user", "content": "Q"},
                        "2": {"id": "2", "parentId": "1", "role": "assistant", "content": "bad"},
                        "3": {"id": "3", "parentId": "1", "role": "assistant", "content": "good"},
                    },
                }
            }
        }
    },
}
ARGILLA = {
    "id": "r1",
    "fields": {"instruction": "Q", "response1": "bad", "response2": "good"},
    "responses": {
        "preference": [{"value": "response2", "user_id": "u1"}, {"value": "response2", "user_id": "u2"}]
    },
}
PAIRS: dict[str, tuple[str, Any]] = {
    "trl text": ("trl", TRL),
    "trl conversational": ("trl", {"prompt": turns("Q"), "chosen": turns("", "good")[1:], "rejected": turns("", "bad")[1:]}),
    "trl without prompt": ("trl", {"chosen": turns("Q", "good"), "rejected": turns("Q", "bad")}),
    "hh-rlhf": ("hh-rlhf", {"chosen": "\n\nHuman: Q\n\nAssistant: good", "rejected": "\n\nHuman: Q\n\nAssistant: bad"}),
    "ultrafeedback binarised": (
        "ultrafeedback",
        {"prompt": "Q", "prompt_id": "x", "chosen": turns("Q", "good"), "rejected": turns("Q", "bad"),
         "messages": turns("Q", "good"), "score_chosen": 8.0, "score_rejected": 3.0},
    ),
    "ultrafeedback scored": (
        "ultrafeedback",
        {"source": "s", "instruction": "Q", "completions": [
            {"response": "middling", "overall_score": 5}, {"response": "good", "overall_score": 9.5},
            {"response": "bad", "overall_score": 1}]},
    ),
    "lmarena": (
        "lmarena",
        {"question_id": "1", "model_a": "m", "model_b": "n", "winner": "model_b", "conversation_a": turns("Q", "bad"),
         "conversation_b": turns("Q", "good")},
    ),
    "lmarena 55k": (
        "lmarena",
        {"prompt": '["Q"]', "response_a": '["good"]', "response_b": '["bad"]', "winner_model_a": 1, "winner_model_b": 0,
         "winner_tie": 0},
    ),
    "openwebui": ("openwebui", OPENWEBUI),
    "argilla 2": ("argilla", ARGILLA),
    "argilla 2 flat": (
        "argilla",
        {"id": "r1", "status": "completed", "prompt": "Q", "response_a": "good", "response_b": "bad", "topic": "x",
         "ranking.responses": [["response_a", "response_b"], ["response_b", "response_a"]],
         "ranking.responses.users": ["u1", "u2"], "ranking.responses.status": ["submitted", "draft"],
         "honesty.responses": [2], "honesty.responses.users": ["u1"], "ranking.suggestion": None},
    ),
    "argilla 1 ranking": (
        "argilla",
        {"fields": ARGILLA["fields"], "responses": [{"status": "submitted", "values": {"order": {"value": [
            {"value": "response2", "rank": 1}, {"value": "response1", "rank": 2}]}}}]},
    ),
    "openai": (
        "openai",
        {"input": {"messages": turns("Q"), "tools": [], "parallel_tool_calls": True},
         "preferred_output": turns("", "good")[1:], "non_preferred_output": turns("", "bad")[1:]},
    ),
}  # fmt: skip


DEMONSTRATIONS: dict[str, Any] = {
    "sharegpt": {"conversations": [{"from": "gpt", "value": "Hi!"}, {"from": "human", "value": "Q"},
                                   {"from": "gpt", "value": "A"}, {"from": "human", "value": "bye"}]},
    "openai": {"messages": turns("Q", "A")},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "trl": {"prompt": "Q", "completion": "A"},
}  # fmt: skip
