"""Training sees the tokens that a real engine makes of the same conversation, whatever the template and the release."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from align.training.texts.chat_template import Refused
from align.training.texts.data import encode
from align.training.texts.rendering import RowRenderer
from common.chat_messages import context_of
from serve.engine.engine import Engine
from serve.errors import EngineFailed
from serve.gateway import requests
from serve.gateway.protocols.chat import Chat
from serve.metering.limits import Limits
from serve.router import Target
from store import carried
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.training_data import pairs
from store.values import PreferencePair, conversation, to_json
from tests.serve.conftest import BASE
from tests.support.templates import SWITCHED, TEMPLATES, TOOLS

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

WORDS = ["Name a bird.", " and spaces ", "two\nlines", "x-anthropic-billing-header: a\nrest", "Grüße 🐦", "a"]


def conversations(count: int) -> list[list[dict[str, Any]]]:
    """Conversations as clients send them: all roles, in any order, content in every form."""
    rng = random.Random(7)
    made = []
    for _ in range(count):
        roles = rng.choices(["system", "developer", "user", "assistant"], [1, 2, 5, 3], k=rng.randint(0, 4))
        made.append([{"role": role, "content": _content(rng, role)} for role in [*roles, "user"]])
    return made


def _content(rng: random.Random, role: str) -> object:
    text = rng.choice(WORDS)
    forms: list[object] = [
        text,
        [{"type": "text", "text": text}],
        [{"type": "text", "text": text}, {"type": "text", "text": rng.choice(WORDS)}],
    ]
    return rng.choice([*forms, None] if role == "assistant" else forms)


async def ids_of_engine(engine: Engine, sent: dict[str, Any], template: str) -> list[int] | None:
    """The token ids of a request's prompt, None where the template refuses it."""
    asked = {"model": BASE, "messages": sent["messages"], "chat_template": template}
    asked |= {name: sent[name] for name in sent if name == "chat_template_kwargs"}
    try:
        return list((await engine.request("POST", "/tokenize", json=json.loads(json.dumps(asked))))["tokens"])
    except EngineFailed as error:
        if error.status != 400:
            raise
        return None


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
async def test_a_stored_row_has_the_token_ids_that_the_engine_got(
    engine: Engine, tiny_base: Path, smollm2: Path, system_prompt: str | None
) -> None:
    templates = {**TEMPLATES, "smollm2": AutoTokenizer.from_pretrained(smollm2).chat_template}
    target = Target("assistant", "assistant", "assistant@1", "rel-1", BASE, system_prompt=system_prompt)
    for name, template in templates.items():
        tokenizer = AutoTokenizer.from_pretrained(tiny_base)
        tokenizer.chat_template = template
        renderer = RowRenderer(tokenizer, "another prompt, which the row's own one replaces")
        refused = 0
        for messages in conversations(40):
            body = {"model": "assistant", "messages": messages}
            requests.check_chat(body, Limits())
            sent, _ = requests.for_engine(body, target, Limits())
            engines = await ids_of_engine(engine, sent, template)
            row = {
                "prompt": to_json(conversation(messages)),
                "context": context_of(system_prompt),
                "chosen": "It is a wren.",
            }
            try:
                ours = encode(tokenizer, renderer.row(row, ["chosen"])[:1])[0]
            except Refused:
                ours, refused = None, refused + 1
            assert ours == engines, (name, messages)
        assert refused < 40, name


@pytest.mark.parametrize(
    "options", [{}, {"enable_thinking": False}, {"enable_thinking": True, "style": "dry"}]
)
async def test_a_row_has_the_tokens_of_what_its_release_fixes_of_the_template(
    engine: Engine, tiny_base: Path, options: dict[str, Any]
) -> None:
    sampling = {"temperature": 0, "chat_template_kwargs": options}
    target = Target("assistant", "assistant", "assistant@2", "rel-2", BASE, sampling=sampling)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = SWITCHED
    renderer = RowRenderer(
        tokenizer, template_options={"style": "of another release, which the row's own replace"}
    )
    for messages in conversations(20):
        sent, _ = requests.for_engine({"model": "assistant", "messages": messages}, target, Limits())
        row = {
            "prompt": to_json(conversation(messages)),
            "context": [],
            "chat_template_kwargs": json.dumps(options),
            "chosen": "It is a wren.",
        }
        (ours,) = encode(tokenizer, renderer.row(row, ["chosen"])[:1])
        assert ours == await ids_of_engine(engine, sent, SWITCHED)
        assert ("</think>" in tokenizer.decode(ours)) == (options.get("enable_thinking") is False)
        row["chat_template_kwargs"] = None
        assert encode(tokenizer, renderer.row(row, ["chosen"])[:1]) != [ours]


WEATHER = {
    "type": "function",
    "function": {
        "parameters": {"type": "object", "required": ["town"], "properties": {"town": {"type": "string"}}},
        "name": "weather",
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Zeit 🕰", "strict": True, "parameters": None},
}


def calling(town: str, ident: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": json.dumps({"town": town, "day": 1})}
    return {"id": ident, "type": "function", "function": function}


async def ids_of_chat(engine: Engine, sent: dict[str, Any]) -> list[int]:
    """The token ids of the prompt that a chat completion was computed from: /tokenize does not take reasoning."""
    asked = sent | {"chat_template": TOOLS, "max_tokens": 1, "return_token_ids": True}
    if sent.get("tools"):
        asked["tool_choice"] = "none"
    answer = await engine.request("POST", "/v1/chat/completions", json=json.loads(json.dumps(asked)))
    return list(answer["prompt_token_ids"])


def compared(folder: Path, prompt: list[dict[str, Any]]) -> PreferencePair:
    """The pair of a comparison in which an answer that calls a tool won over words."""
    called = carried.of_answer({"tool_calls": [calling("Ulm", "c")]})
    with Store.open(folder / "trimtab.duckdb") as db:
        made = comparisons.create(
            db, prompt, [Candidate("", carried=called), Candidate("Sun.")], "assistant", votes_wanted=1
        )
        comparisons.vote(db, made.id, "a" if made.a.carried else "b", "ada")
        return pairs.list_page(db)[0].pair


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
@pytest.mark.parametrize("tools", [None, [], [WEATHER], [WEATHER, CLOCK]])
async def test_tools_and_calls_of_a_stored_row_are_the_tokens_that_the_engine_got(
    engine: Engine,
    tiny_base: Path,
    tmp_path: Path,
    system_prompt: str | None,
    tools: list[dict[str, Any]] | None,
) -> None:
    messages = [
        {"role": "user", "content": "Ulm?"},
        {"role": "assistant", "content": None, "tool_calls": [calling("Ulm", "a"), calling("Bern", "b")]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "sun"}]},
        {"role": "assistant", "content": "Rain, sun.", "reasoning_content": "Both came back."},
        {"role": "user", "content": "And tomorrow?"},
    ]
    body = {"model": "assistant", "messages": messages, **({} if tools is None else {"tools": tools})}
    target = Target("assistant", "assistant", "assistant@1", "rel-1", BASE, system_prompt=system_prompt)
    sent, _ = requests.for_engine(body, target, Limits())
    kept = to_json(conversation(Chat().conversation(body)))
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = TOOLS
    row = {"prompt": kept, "context": context_of(system_prompt), "chosen": "Sun."}
    ours = encode(tokenizer, RowRenderer(tokenizer).row(row, ["chosen"])[:1])[0]
    assert ours == await ids_of_chat(engine, sent)
    assert ("weather" in tokenizer.decode(ours).partition("Ulm?")[0]) == bool(tools)
    again, _ = requests.for_engine({"model": "assistant", "messages": kept}, target, Limits())
    assert ours == await ids_of_chat(engine, again), "a stored conversation is sent as it was"
    pair = compared(tmp_path, kept).to_json() | {"context": context_of(system_prompt)}
    prompt, chosen, rejected = RowRenderer(tokenizer).row(pair, ["chosen", "rejected"])
    assert encode(tokenizer, [prompt])[0] == ours, (
        "a pair of a comparison begins with the tokens that both got"
    )
    assert "<call>weather" in chosen
    assert "<call>" not in rejected
