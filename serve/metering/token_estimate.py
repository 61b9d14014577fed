"""How many tokens an answer used whose end, where the engine reports them, never came: a guess from what is there.

Asked only then, after the request, so it may look at the messages. Not covered: images and what a chat template adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.metering.usage_counter import Used

BYTES_PER_TOKEN = 4


def of_stream(body: Mapping[str, Any], events: int) -> Used:
    """Return what a stream used that ended early, after `events` events with a choice had gone out.

    `body` is the request as the engine got it. vLLM sends one event per token, after one for each choice of a chat that
    says its role. Tokens that it makes faster than they can be sent come in one event and count as one, so the guess
    is never above what was made and falls below it on a busy machine.
    """
    roles = (body.get("n") or 1) if "messages" in body else 0
    return Used(prompt_tokens(body), max(0, events - roles))


def of_whole(body: Mapping[str, Any], answer: bytes) -> Used:
    """Return what an answer in one piece used that reports no usage; its JSON around the text is counted too."""
    return Used(prompt_tokens(body), _tokens(len(answer)))


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return about how many tokens a request's text has: one for every four bytes of it in UTF-8.

    Four is the rule of thumb for English with vocabularies of 30,000 to 130,000 tokens; other languages have fewer
    bytes per token. A prompt of token ids is counted exactly.
    """
    if "messages" in body:
        return _tokens(sum(_size(message.get("content")) for message in body["messages"]))
    prompt = body.get("prompt")
    several = prompt if isinstance(prompt, list) else [prompt]
    ids = sum(isinstance(one, int) for one in several)
    ids += sum(len(one) for one in several if isinstance(one, list))
    return ids + _tokens(sum(_size(one) for one in several if isinstance(one, str)))


def _size(content: Any) -> int:
    """Bytes of a message's content: text, or parts of which some have text."""
    if isinstance(content, str):
        return len(content.encode("utf-8", "replace"))
    if isinstance(content, list):
        return sum(_size(part.get("text") if isinstance(part, dict) else part) for part in content)
    return 0


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
