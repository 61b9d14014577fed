"""`POST /v1/completions`: text without a conversation, never recorded."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from serve.gateway import requests
from serve.gateway.openai_paths import COMPLETIONS
from serve.gateway.protocols.chat import Chat
from serve.gateway.protocols.protocol import Body
from serve.metering.limits import Limits
from serve.router import Target
from store.rollout import chat_template_kwargs


class Completions(Chat):
    """OpenAI's older protocol: a `prompt` in place of messages."""

    path: ClassVar[str] = COMPLETIONS

    @override
    def check(self, body: Body, limits: Limits) -> None:
        requests.check_completion(body, limits)

    @override
    def for_engine(self, body: Body, target: Target, limits: Limits) -> tuple[dict[str, Any], bool]:
        out, asked = super().for_engine(body, target, limits)
        out.pop(chat_template_kwargs.KEY, None)  # text meets no chat template
        return out, asked

    @override
    def conversation(self, body: Body) -> None:
        return None
