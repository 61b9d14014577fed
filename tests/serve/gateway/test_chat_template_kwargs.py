"""Arguments of the chat template in what engines are sent: the release's, and over them the request's own, key by key."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import RequestError
from serve.gateway.protocols.chat import Chat
from serve.gateway.protocols.completions import Completions
from serve.gateway.protocols.messages import AnthropicMessages
from serve.gateway.protocols.protocol import Protocol
from serve.gateway.protocols.responses import OpenAIResponses
from serve.metering.limits import Limits
from serve.router import Target

HI = [{"role": "user", "content": "Hi"}]
FIXED = {"enable_thinking": False, "style": "dry"}
TARGET = Target(
    "assistant", "assistant", "assistant@2", "rel-2", "tiny", sampling={"chat_template_kwargs": FIXED}
)
PROTOCOLS: list[tuple[Protocol, dict[str, Any]]] = [
    (Chat(), {"messages": HI}),
    (OpenAIResponses(), {"input": "Hi"}),
    (AnthropicMessages(), {"messages": HI, "max_tokens": 4}),
]


@pytest.mark.parametrize(("protocol", "body"), PROTOCOLS)
@pytest.mark.parametrize(
    ("own", "sent"),
    [
        (None, FIXED),
        ({}, FIXED),
        ({"enable_thinking": True}, {"enable_thinking": True, "style": "dry"}),
        ({"tone": 1}, {**FIXED, "tone": 1}),
    ],
)
def test_a_request_changes_the_keys_that_it_names(
    protocol: Protocol, body: dict[str, Any], own: Any, sent: dict[str, Any]
) -> None:
    given = body | {"model": "assistant", "chat_template_kwargs": own}
    protocol.check(given, Limits())
    assert protocol.for_engine(given, TARGET, Limits())[0]["chat_template_kwargs"] == sent
    assert FIXED == {"enable_thinking": False, "style": "dry"}


@pytest.mark.parametrize(("protocol", "body"), PROTOCOLS)
def test_what_is_no_object_is_refused(protocol: Protocol, body: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        protocol.check(body | {"model": "assistant", "chat_template_kwargs": "off"}, Limits())
    assert refused.value.param == "chat_template_kwargs"


def test_text_without_a_chat_has_no_template() -> None:
    sent, _ = Completions().for_engine({"model": "assistant", "prompt": "Hi"}, TARGET, Limits())
    assert "chat_template_kwargs" not in sent
