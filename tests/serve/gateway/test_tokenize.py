"""`/tokenize` and `/detokenize` under the names of releases, model cards, and paths that no engine here answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.gateway.openai_paths import not_found
from store.accounts import keys
from store.rollout import deployments, releases
from tests.serve.gateway.conftest import HI, post
from tests.serve.gateway_harness import Part, stub_replicas
from tests.support.stub_engine import MODEL

pytestmark = pytest.mark.anyio


async def test_a_chat_is_tokenized_as_its_release_would_get_it(stub_part: Part) -> None:
    fixed = {"temperature": 0, "chat_template_kwargs": {"enable_thinking": False}}
    releases.create(stub_part.db, "assistant", MODEL, system_prompt="Be very brief.", sampling=fixed)
    await stub_part.reconciler.refresh()
    asked = {"messages": HI, "add_generation_prompt": True, "return_token_strs": True}
    answer = await post(stub_part, {"model": "assistant@2", **asked}, "/tokenize")
    found = answer.json()
    assert (found["count"], found["tokens"], found["max_model_len"]) == (5, [0, 1, 2, 3, 4], 4096)
    assert json.loads(found["token_strs"][0]) == {
        **asked,
        "model": MODEL,
        "messages": [{"role": "system", "content": "Be very brief."}, *HI],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert answer.headers["X-Trimtab-Release"] == "assistant@2"
    own = {"chat_template_kwargs": {"style": "dry"}}
    joined = await post(stub_part, {"model": "assistant@2", **asked, **own}, "/tokenize")
    sent = json.loads(joined.json()["token_strs"][0])
    assert sent["chat_template_kwargs"] == {"enable_thinking": False, "style": "dry"}
    for name in ("assistant", MODEL):
        plain = await post(stub_part, {"model": name, "prompt": "one two three"}, "/tokenize")
        assert plain.json()["count"] == 3
    back = await post(stub_part, {"model": "assistant@2", "tokens": [0, 1]}, "/detokenize")
    assert back.json() == {"prompt": "word word "}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {"prompt": "x"}, 400, "model"),
        ("/tokenize", {"model": "gpt-4", "prompt": "x"}, 404, "model"),
        ("/tokenize", {"model": "assistant"}, 400, "prompt"),
        ("/tokenize", {"model": "assistant", "prompt": ["x"]}, 400, "prompt"),
        ("/tokenize", {"model": "assistant", "messages": []}, 400, "messages"),
        (
            "/tokenize",
            {"model": "assistant", "messages": [{"role": "x", "content": ""}]},
            400,
            "messages[0].role",
        ),
        ("/detokenize", {"model": "assistant"}, 400, "tokens"),
        ("/detokenize", {"model": "assistant", "tokens": [1, True]}, 400, "tokens"),
        ("/detokenize", {"model": "assistant", "tokens": [-1]}, 400, "tokens"),
        ("/tokenize", b"{", 400, None),
    ],
)
async def test_bad_requests_for_tokens_name_the_field(
    stub_part: Part, path: str, body: Any, status: int, param: str | None
) -> None:
    answer = await post(stub_part, body, path)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


async def test_tokens_need_a_key(stub_part: Part) -> None:
    wrong = {"Authorization": f"Bearer {keys.PREFIX}nobody"}
    answer = await post(stub_part, {"model": "assistant", "prompt": "x"}, "/tokenize", headers=wrong)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"]


async def test_another_replica_tokenizes_when_the_first_has_ended(tmp_path: Path) -> None:
    async with stub_replicas(tmp_path, 2) as (part, apps):
        apps[0].state.fault = "silence"
        answer = await post(part, {"model": "assistant", "prompt": "one two"}, "/tokenize")
        assert answer.json()["count"] == 2
        apps[1].state.fault = "silence"
        answer = await post(part, {"model": "assistant", "prompt": "one two"}, "/tokenize")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")


async def test_model_cards_say_what_a_release_is_made_of(tmp_path: Path) -> None:
    async with stub_replicas(tmp_path, 1) as (part, _):
        for _n in range(2):
            releases.create(part.db, "assistant", MODEL)
        canary = releases.list_all(part.db)
        second = next(release for release in canary if release.number == 2)
        deployments.set_canary(part.db, "assistant", second.id, 0.1)
        await part.reconciler.refresh()
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"Authorization": "Bearer operator-key"}
            listed = (await http.get(part.url + "/v1/models", headers=headers)).json()["data"]
    cards = {card["id"]: card for card in listed}
    assert {card["owned_by"] for card in listed} == {"trimtab"}
    assert all(card["created"] > 1_700_000_000 for card in listed)
    assert {name: card["state"] for name, card in cards.items() if card["kind"] == "release"} == {
        "assistant@1": "stable",
        "assistant@2": "canary",
        "assistant@3": "none",
    }
    made_of = {key: cards["assistant@2"][key] for key in ("deployment", "base", "adapter")}
    assert made_of == {"deployment": "assistant", "base": MODEL, "adapter": None}
    assert (cards["assistant"]["canary"], cards["assistant"]["adapter"]) == ("assistant@2", None)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/embeddings", "generate text; embeddings need"),
        ("/embeddings", "generate text; embeddings need"),
        ("/v1/audio/transcriptions", "speech and transcriptions"),
        ("/v1/audio/speech", "speech and transcriptions"),
        ("/v1/images/generations", "images need"),
        ("/v1/moderations", "moderations need"),
        ("/v1/rerank", "rankings need"),
        ("/v1/batches", "send each request to /v1/chat/completions"),
        ("/v1/threads/thread_1/runs", "send each conversation to /v1/chat/completions"),
    ],
)
async def test_what_no_engine_has_is_refused_in_a_sentence(stub_part: Part, path: str, said: str) -> None:
    answer = await post(stub_part, {"model": "assistant", "input": "x"}, path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (404, "not_found", "invalid_request_error")
    assert said in error["message"]
    assert "Accepted: /v1/chat/completions" in error["message"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/models", "ends in /v1"),
        ("/v1/v1/models", "twice"),
        ("/v1/unknown", "There is no /v1/unknown. Accepted"),
    ],
)
def test_a_wrong_base_url_is_still_named(path: str, hint: str) -> None:
    assert hint in not_found(path)
