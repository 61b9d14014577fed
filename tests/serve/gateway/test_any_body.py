"""Whatever a client sends, the gateway answers 200 or an error of the client's, in OpenAI's form; the engine is a stub."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.conversations import stored_conversations
from store.errors import NotFound
from tests.serve.gateway_harness import KEY, Part

pytestmark = pytest.mark.anyio
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PATHS = [CHAT, COMPLETIONS]


@pytest.fixture(scope="module")
def part(stub_part: Part) -> Part:
    return stub_part


def request(path: str, **more: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"prompt": "say 2"}
    if path == CHAT:
        asked = {"messages": [{"role": "user", "content": "say 2"}]}
    return {"model": "assistant", **asked, **more}


async def post(part: Part, path: str, body: Any, conversation: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    if conversation:
        headers["X-Trimtab-Conversation"] = conversation
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
        return await http.post(part.url + path, content=content, headers=headers)


def check_answer(response: httpx.Response, streamed: bool) -> None:
    assert response.status_code < 500, response.text
    if response.status_code == 200:
        events = response.headers["content-type"].startswith("text/event-stream")
        assert events == streamed
        return
    assert response.status_code in (400, 404, 413), response.text
    assert set(response.json()["error"]) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(flag, value) for flag in ("stream", "store") for value in ("false", "true", "", 0, 1, [], {})],
        *[("stream_options", value) for value in ("yes", 1, True, [])],
        *[("user", value) for value in (3, True, {}, ["ada"])],
        *[("max_tokens", value) for value in ("8", 1.5, True, -1, [])],
        *[("n", value) for value in ("2", 1.5, False, 0, 17)],
        *[("model", value) for value in (None, 3, "", [], {})],
    ],
)
async def test_wrong_type_is_refused_and_names_the_field(
    part: Part, path: str, field: str, value: Any
) -> None:
    response = await post(part, path, request(path, **{field: value}))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == field
    assert field in error["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", ["false", 1, {}])
async def test_wrong_type_of_include_usage_is_refused(part: Part, path: str, value: Any) -> None:
    body = request(path, stream=True, stream_options={"include_usage": value})
    response = await post(part, path, body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stream_options.include_usage")


@pytest.mark.parametrize("text", [None, 1, {}, ["say 2"]])
async def test_text_part_without_text_is_refused(part: Part, text: Any) -> None:
    parts = [{"type": "text", "text": "say"}, {"type": "text", "text": text}]
    response = await post(part, CHAT, request(CHAT, messages=[{"role": "user", "content": parts}]))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages[0].content[1].text")


@pytest.mark.parametrize("path", PATHS)
async def test_null_means_not_given(part: Part, path: str) -> None:
    names = ("stream", "store", "stream_options", "user", "max_tokens", "n")
    response = await post(part, path, request(path, **dict.fromkeys(names)))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("store", "kept"), [(True, True), (None, True), (False, False), ("false", False)])
async def test_store_decides_what_is_kept(part: Part, store: Any, kept: bool) -> None:
    name = f"conv-store-{store}"
    await post(part, CHAT, request(CHAT, store=store), name)
    await part.recorder.flush()
    if kept:
        assert stored_conversations.get(part.db, name).messages[-1].content == "word word "
    else:
        with pytest.raises(NotFound):
            stored_conversations.get(part.db, name)


@pytest.mark.parametrize("messages", [None, False, [], [{"role": "user", "content": "hi"}]])
async def test_completions_refuse_messages(part: Part, messages: Any) -> None:
    response = await post(part, COMPLETIONS, request(COMPLETIONS, messages=messages))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


async def test_refused_value_is_repeated_in_part(part: Part) -> None:
    response = await post(part, CHAT, request(CHAT, stream="x" * 100_000))
    assert len(response.content) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("false"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    *("model", "messages", "prompt", "stream", "store", "user", "stream_options", "max_tokens"),
    *("max_completion_tokens", "n", "temperature", "stop", "tools", "metadata"),
]
PLACES = st.sampled_from(
    [*[(field,) for field in FIELDS], ("messages", 0), ("stream_options", "include_usage"),
     *[("messages", 0, key) for key in ("role", "content", "name", "tool_calls")],
     ("messages", 0, "content", 0), *[("messages", 0, "content", 0, key) for key in ("type", "text")]]
)  # fmt: skip


def put(body: Any, place: tuple[Any, ...], value: Any) -> None:
    """Set what `place` names, with lists and objects made on the way."""
    for key, after in itertools.pairwise(place):
        kind: type = list if isinstance(after, int) else dict
        inner = body.get(key) if isinstance(body, dict) else body[0]
        if not isinstance(inner, kind) or (kind is list and not inner):
            inner = [{}] if kind is list else {}
            body[key] = inner
        body = inner
    body[place[-1]] = value


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), changes=st.lists(st.tuples(PLACES, JSON), min_size=1, max_size=3))
async def test_no_field_makes_the_gateway_fail(part: Part, path: str, changes: list[Any]) -> None:
    body = copy.deepcopy(request(path))
    for place, value in changes:
        put(body, place, value)
    check_answer(await post(part, path, body), streamed=body.get("stream") is True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=JSON | st.binary(max_size=40))
async def test_no_body_makes_the_gateway_fail(part: Part, path: str, body: Any) -> None:
    check_answer(await post(part, path, body), streamed=False)
