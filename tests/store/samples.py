"""Rows as others write them: every shape of every format says the question Q with the answers "good" and "bad"."""

from __future__ import annotations

import json
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
    "helpsteer 2": (
        "helpsteer",
        {"split": "train", "prompt": "Q", "response_1": "bad", "response_2": "good", "preference_strength": 2,
         "preference_statement": "@Response 2 is better.", "preference_elaboration": "It is right."},
    ),
    "helpsteer 3": (
        "helpsteer",
        {"domain": "general", "language": "english", "context": turns("Q"), "response1": "good", "response2": "bad",
         "overall_preference": -1, "individual_preference": [{"score": -1, "reasoning": "It is right."}]},
    ),
    "pku-saferlhf": (
        "pku-saferlhf",
        {"prompt": "Q", "response_0": "bad", "response_1": "good", "prompt_source": "s", "is_response_0_safe": True,
         "is_response_1_safe": True, "better_response_id": 1, "safer_response_id": 1, "response_0_sha256": "00"},
    ),
    "nectar": (
        "nectar",
        {"prompt": "\n\nHuman: Q\n\nAssistant: ", "answers": [
            {"answer": "good", "model": "m", "rank": 1.0}, {"answer": "middling", "model": "n", "rank": 2.0},
            {"answer": "bad", "model": "o", "rank": 3.0}], "turns": 1, "num_responses": 3, "good_natured": True},
    ),
    "distilabel": (
        "distilabel",
        {"instruction": "Q", "generations": ["bad", "good"], "ratings": [1.0, 5.0], "model_name": "m"},
    ),
    "ms-swift": ("ms-swift", {"messages": turns("Q", "good"), "rejected_response": "bad"}),
    "ms-swift messages": ("ms-swift", {"messages": turns("Q", "good"), "rejected_messages": turns("Q", "bad")}),
    "ms-swift query": ("ms-swift", {"query": "Q", "response": "good", "rejected_response": "bad"}),
    "orca-dpo-pairs": ("trl", {"system": "", "question": "Q", "chosen": "good", "rejected": "bad"}),
    "orpo-dpo-mix": (
        "trl",
        {"source": "s", "chosen": turns("Q", "good"), "rejected": turns("Q", "bad"), "prompt": "Q", "question": "Q"},
    ),
    "distilabel orca": (
        "trl",
        {"system": "", "input": "Q", "chosen": "good", "rejected": "bad", "generations": ["good", "bad"],
         "rating": [9.0, 2.0], "status": "unchanged", "original_chosen": "good", "chosen_score": 9.0},
    ),
    "distilabel capybara": (
        "trl",
        {"source": "s", "conversation": [{"input": "Q", "output": "middling"}], "original_response": "middling",
         "new_generations": ["good", "bad"], "prompt": "Q", "chosen": turns("Q", "good"), "rejected": turns("Q", "bad"),
         "rating_chosen": 5, "rating_rejected": 1},
    ),
    "llama-factory alpaca": ("trl", {"instruction": "Q", "input": "", "chosen": "good", "rejected": "bad"}),
    "llama-factory sharegpt": (
        "trl",
        {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}},
    ),
}  # fmt: skip


def traces(asked: str, said: str) -> dict[str, Any]:
    """Return a call of a model as each tool exports it."""
    question, answer = turns(asked, said)
    attributes = {"gen_ai.input.messages": [question], "gen_ai.output.messages": [answer]}
    return {
        "langfuse": {
            "id": "t",
            "name": "chat",
            "input": [question],
            "output": answer,
            "scores": [],
            "metadata": {},
        },
        "langsmith": {
            "id": "r",
            "run_type": "llm",
            "inputs": {"messages": [question]},
            "outputs": {"message": answer},
        },
        "otel": {
            "name": "chat",
            "attributes": [
                {"key": key, "value": {"stringValue": json.dumps(messages)}}
                for key, messages in attributes.items()
            ],
        },
    }


DEMONSTRATIONS: dict[str, Any] = {
    "sharegpt": {"conversations": [{"from": "gpt", "value": "Hi!"}, {"from": "human", "value": "Q"},
                                   {"from": "gpt", "value": "A"}, {"from": "human", "value": "bye"}]},
    "openai": {"messages": turns("Q", "A")},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "trl": {"prompt": "Q", "completion": "A"},
    "trl conversation": {"prompt": "Q", "completion": turns("Q", "A")},
    "capybara": {"source": "s", "conversation": [{"input": "Q", "output": "A"}]},
    "llama-factory": {"instruction": "Q", "input": "", "output": "A", "system": "", "history": []},
    "distilabel": {"instruction": "Q", "generation": "A", "model_name": "m"},
    "distilabel sft": {"prompt": "Q", "prompt_id": "x", "messages": turns("Q", "A")},
    "ms-swift": {"query": "Q", "response": "A"},
    **traces("Q", "A"),
}  # fmt: skip
