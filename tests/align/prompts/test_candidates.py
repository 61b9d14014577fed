from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from align.evaluation.answering.chat_api import ChatApi
from align.prompts.candidates import NONE, Candidate, Example, built_in, instructions, with_shots
from align.prompts.examples import choose_examples, example_of
from align.prompts.writing import instruction_in, write_prompts


def row(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {
        "pair_id": f"pair-{question}",
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": answer}],
        "rejected": [{"role": "assistant", "content": "no"}],
        **more,
    }


def test_candidates_are_the_operators_then_built_in_then_written_each_once() -> None:
    found = instructions(["My own.", "my  OWN.", " "], ["Answer briefly.", "Written by a model."])
    assert [one.instruction for one in found] == ["My own.", *built_in(), "Written by a model."]
    assert len({one.name for one in found}) == len(found)
    assert found[-1].source == "model"
    assert [one.name for one in instructions(["A b."], with_built_in=False)] == ["operator 1"]


def test_examples_stand_behind_the_instruction() -> None:
    examples = [Example("Why?", "Because.", "pair-1"), Example("When?", "Now.")]
    shown = with_shots(Candidate("operator 1", "Be brief."), examples, 2)
    assert shown is not None
    assert shown.system_prompt == (
        "Be brief.\n\nExamples of good answers:\n\nUser: Why?\nAssistant: Because.\n\nUser: When?\nAssistant: Now."
    )
    assert shown.messages == [{"role": "system", "content": shown.system_prompt}]
    assert "Because" not in str(shown.to_json()), "a result keeps no words of people"
    assert shown.to_json()["examples"] == ["pair-1", None]
    assert with_shots(Candidate(NONE), examples, 3) is None
    assert Candidate(NONE).messages == []


def test_examples_are_preferred_answers_that_differ() -> None:
    rows = [row(f"What is the capital of country {n}?", "A city.") for n in range(6)]
    rows += [row("How do I boil an egg?", "Seven minutes."), row("Write a poem on rain", "Drops fall.")]
    found = choose_examples(rows, 3)
    assert len({example.question[:12] for example in found}) == 3
    assert found[0].question.startswith("What is the capital")
    assert choose_examples(rows, 0) == []


def test_examples_follow_the_rules_first() -> None:
    rows = [row(f"Question number {n}?", "One. Two. Three." if n % 2 else "One.") for n in range(16)]
    found = choose_examples(rows, 2, [{"rule": "max_sentences", "value": 1}])
    assert [example.answer for example in found] == ["One.", "One."]


@pytest.mark.parametrize(
    "unfit",
    [
        row("Q?", ""),
        row("Q?", "a" * 700),
        row("Q?", "cut off", chosen_finish_reason="length"),
        row("Q?", "yes")
        | {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2},
        {
            "prompt": [{"role": "user", "content": "Q?"}],
            "completion": [{"role": "assistant", "content": "x"}],
            "label": False,
        },
    ],
    ids=["empty", "long", "cut", "conversation", "dislike"],
)
def test_what_is_no_good_example_is_left_out(unfit: dict[str, Any]) -> None:
    assert example_of(unfit) is None


@pytest.mark.parametrize(
    ("reply", "instruction"),
    [
        ("Instruction: Be brief.", "Be brief."),
        ('**"Answer in one word."**\n\nThis works because', "Answer in one word."),
        ("1. System prompt: Use short words", "Use short words"),
        ("", ""),
        ("Sure", ""),
    ],
)
def test_the_instruction_is_read_from_a_reply(reply: str, instruction: str) -> None:
    assert instruction_in(reply) == instruction


def test_a_model_writes_prompts_from_rated_answers_and_from_rules() -> None:
    shown: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        import json

        body = json.loads(request.content)
        shown.append(body["messages"][0]["content"])
        choice = {"message": {"content": f"Answer like number {len(shown)}."}}
        return httpx.Response(200, json={"choices": [choice]})

    async def run() -> list[str]:
        api = ChatApi("http://model")
        api._client = httpx.AsyncClient(base_url="http://model", transport=httpx.MockTransport(answer))
        async with api:
            return await write_prompts(api, "m", [row("Why?", "Because.")], "max sentences: 2", 2)

    assert asyncio.run(run()) == ["Answer like number 1.", "Answer like number 2."]
    assert "Preferred: Because." in shown[0]
    assert "max sentences: 2" in shown[1]
