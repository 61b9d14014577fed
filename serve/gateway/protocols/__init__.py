"""The protocols that the gateway answers, by path."""

from __future__ import annotations

from serve.gateway.protocols.chat import Chat
from serve.gateway.protocols.completions import Completions
from serve.gateway.protocols.messages import AnthropicMessages
from serve.gateway.protocols.protocol import Protocol
from serve.gateway.protocols.responses import OpenAIResponses

PROTOCOLS: dict[str, Protocol] = {
    protocol.path: protocol for protocol in (Chat(), Completions(), OpenAIResponses(), AnthropicMessages())
}
CHAT = PROTOCOLS[Chat.path]
