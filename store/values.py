"""The values that go all the way round: store -> align -> serve -> feedback_ui.

Frozen, without ids, without storage. Each has a `content_hash`, a SHA-256 in hex of its roles and texts, and of what its
messages carry: what a value says decides the hash, not where it is kept nor its weight and tags. Not covered: content
that is not text (images); `Message.from_json` joins text parts and refuses the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store import shared_turns
from store.errors import Invalid
from store.message import (
    Conversation,
    Message,
    characters,
    completion,
    conversation,
    digest,
    said,
    sha256,
    to_json,
    unicode_text,
)

__all__ = [
    "Conversation",
    "Demonstration",
    "Judgement",
    "Message",
    "PreferencePair",
    "Probe",
    "characters",
    "clean_tags",
    "completion",
    "conversation",
    "conversation_hash",
    "read_prompt",
    "read_tags",
    "read_weight",
    "to_json",
    "versus_hash",
]


def conversation_hash(messages: Iterable[Message]) -> str:
    """SHA-256 of a conversation: what identifies a prompt."""
    return digest(messages)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt, the response that people chose and the one they rejected: one DPO row.

    `chosen` and `rejected` follow `prompt` and end with the assistant. `weight` is above 0, at most 1: how
    sure the raters were. `tags` are sorted and unique.
    """

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    weight: float = 1.0
    tags: tuple[str, ...] = ()

    @property
    def content_hash(self) -> str:
        """SHA-256 of prompt, chosen and rejected; not of weight and tags."""
        return digest(self.prompt, self.chosen, self.rejected)

    @property
    def versus_hash(self) -> str:
        """SHA-256 of the prompt and the two responses in either order: the question that was decided."""
        return versus_hash(self.prompt, self.chosen, self.rejected)

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the prompt."""
        return conversation_hash(self.prompt)

    @property
    def hashes(self) -> tuple[str, str, str]:
        """`content_hash`, `versus_hash` and `prompt_hash`, for half of what they cost one by one."""
        prompt, chosen, rejected = said(self.prompt), said(self.chosen), said(self.rejected)
        content = sha256([prompt, chosen, rejected])
        in_order = _order(self.chosen) <= _order(self.rejected)
        versus = content if in_order else sha256([prompt, rejected, chosen])
        return content, versus, sha256([prompt])

    @property
    def characters(self) -> int:
        """How long its texts are together."""
        return characters(self.prompt, self.chosen, self.rejected)

    def to_json(self) -> dict[str, Any]:
        """Return TRL's conversational preference form, plus `weight` and `tags`."""
        return {
            "prompt": to_json(self.prompt),
            "chosen": to_json(self.chosen),
            "rejected": to_json(self.rejected),
            "weight": self.weight,
            "tags": list(self.tags),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PreferencePair:
        """Read `{messages|prompt, chosen, rejected, weight?, tags?}`; each text or a message list.

        Where both sides are whole conversations, the turns that they share are the prompt; of texts without a prompt,
        the words that both begin with. Both sides then begin with the assistant. Raises `Invalid` naming the field.
        """
        sides = _need(row, "chosen"), _need(row, "rejected")
        chosen, rejected = completion(sides[0], "chosen"), completion(sides[1], "rejected")
        prompt = read_prompt(row)
        if prompt is None and _texts(sides, (chosen, rejected)):
            prompt, chosen, rejected = shared_turns.split_texts(*sides)
        else:
            if prompt is not None and (chosen == rejected):
                raise Invalid("rejected", rejected[-1].content, "a response that differs from `chosen`")
            prompt, chosen, rejected = shared_turns.split_pair(prompt, chosen, rejected)
        if chosen == rejected:
            raise Invalid("rejected", rejected[-1].content, "a response that differs from `chosen`")
        return cls(prompt, chosen, rejected, read_weight(row), read_tags(row))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the completion to learn: one SFT row. `completion` ends with the assistant."""

    prompt: Conversation
    completion: Conversation
    tags: tuple[str, ...] = ()

    @property
    def content_hash(self) -> str:
        """SHA-256 of prompt and completion; not of tags."""
        return digest(self.prompt, self.completion)

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the prompt."""
        return conversation_hash(self.prompt)

    @property
    def characters(self) -> int:
        """How long its texts are together."""
        return characters(self.prompt, self.completion)

    def to_json(self) -> dict[str, Any]:
        """Return TRL's conversational prompt-completion form, plus `tags`."""
        return {
            "prompt": to_json(self.prompt),
            "completion": to_json(self.completion),
            "tags": list(self.tags),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Demonstration:
        """Read `{messages|prompt, completion, tags?}`, or `{messages}` alone whose last message is the
        completion.

        Raises `Invalid` naming the field.
        """
        prompt = read_prompt(row)
        if row.get("completion") is None and row.get("prompt") is None and prompt is not None:
            if len(prompt) < 2:
                raise Invalid(
                    "messages", row.get("messages"), "a prompt and the assistant's answer, or a `completion`"
                )
            completion(prompt, "messages")
            return cls(prompt[:-1], prompt[-1:], read_tags(row))
        prompt, answer = shared_turns.split_completion(
            prompt, completion(_need(row, "completion"), "completion")
        )
        if prompt is None:
            raise Invalid("prompt", None, shared_turns.NO_PROMPT)
        return cls(prompt, answer, read_tags(row))


@dataclass(frozen=True, slots=True)
class Judgement:
    """A prompt, a completion and whether it was liked (`label`): one KTO row."""

    prompt: Conversation
    completion: Conversation
    label: bool

    @property
    def content_hash(self) -> str:
        """SHA-256 of prompt, completion and label."""
        return digest(self.prompt, self.completion, (Message("tool", str(self.label)),))

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the prompt."""
        return conversation_hash(self.prompt)

    @property
    def characters(self) -> int:
        """How long its texts are together."""
        return characters(self.prompt, self.completion)

    def to_json(self) -> dict[str, Any]:
        """Return TRL's conversational unpaired-preference form."""
        return {"prompt": to_json(self.prompt), "completion": to_json(self.completion), "label": self.label}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Judgement:
        """Read `{messages|prompt, completion, label}`; raises `Invalid` naming the field."""
        label = row.get("label")
        if not isinstance(label, bool):
            words = {"true": True, "1": True, "false": False, "0": False}
            if str(label).lower() not in words:
                raise Invalid("label", label, "true or false")
            label = words[str(label).lower()]
        read = Demonstration.from_json({key: row.get(key) for key in ("prompt", "messages", "completion")})
        return cls(read.prompt, read.completion, label)


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe text and the log-probabilities that models gave it.

    `token_ids` has length T; `logprobs` maps the name of a model state ("base", "adapter", "nf4_adapter") to natural-log
    probabilities: T - 1, of tokens 1 to T - 1 given those before. With `window` the text is read in windows of so many
    tokens, each on its own, and a series leaves out the first token of each.
    """

    token_ids: tuple[int, ...]
    logprobs: dict[str, list[float]] = field(default_factory=dict)
    window: int | None = None

    @property
    def windows(self) -> list[tuple[int, ...]]:
        """The parts of the text that are read on their own."""
        size = self.window or max(1, len(self.token_ids))
        return [self.token_ids[start : start + size] for start in range(0, len(self.token_ids), size)]

    @property
    def content_hash(self) -> str:
        """SHA-256 of the token ids."""
        return hashlib.sha256(",".join(map(str, self.token_ids)).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return `{"token_ids", "window", "logprobs"}`."""
        return {"token_ids": list(self.token_ids), "window": self.window, "logprobs": self.logprobs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Probe:
        """Read what `to_json` wrote; raises `Invalid` naming the field."""
        ids = _need(value, "token_ids")
        if not isinstance(ids, Sequence) or not all(isinstance(i, int) for i in ids):
            raise Invalid("token_ids", ids, "a list of integers")
        logprobs = value.get("logprobs") or {}
        if not isinstance(logprobs, Mapping):
            raise Invalid("logprobs", logprobs, "an object of lists of numbers")
        window = value.get("window")
        if window is not None and (not isinstance(window, int) or window < 2):
            raise Invalid("window", window, "null, or a number of tokens of 2 or more")
        series = {str(name): [float(x) for x in values] for name, values in logprobs.items()}
        return cls(tuple(ids), series, window)


def versus_hash(prompt: Conversation, one: Conversation, other: Conversation) -> str:
    """SHA-256 of a prompt and two responses in either order."""
    return digest(prompt, *sorted((one, other), key=_order))


def read_prompt(row: Mapping[str, Any]) -> Conversation | None:
    """Read `prompt` or `messages` of a row, None where it has neither; `Invalid` where it has both."""
    prompt, messages = row.get("prompt"), row.get("messages")
    if prompt is not None and messages is not None:
        raise Invalid("prompt", prompt, "either `prompt` or `messages`, not both")
    if prompt is None and messages is None:
        return None
    return conversation(prompt, "prompt") if messages is None else conversation(messages, "messages")


def read_tags(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the optional `tags` of a row: a list of texts; sorted, unique."""
    return clean_tags(row.get("tags"))


def clean_tags(tags: object) -> tuple[str, ...]:
    """Return tags sorted and unique; raises `Invalid` unless they are a list of texts that are not blank."""
    if tags is None:
        return ()
    if isinstance(tags, str | Mapping) or not isinstance(tags, Iterable):
        raise Invalid("tags", tags, "a list of texts")
    read = list(tags)
    for tag in read:
        if not isinstance(tag, str) or not tag.strip():
            raise Invalid("tags", tag, "a list of texts that are not blank")
    return tuple(sorted({unicode_text(tag.strip(), "tags") for tag in read}))


def read_weight(row: Mapping[str, Any]) -> float:
    """Read the optional `weight` of a row: above 0, at most 1."""
    weight = row.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise Invalid("weight", weight, "a number above 0, at most 1")
    return float(weight)


def _texts(sides: Sequence[object], read: Sequence[Conversation]) -> bool:
    """Tell whether sides are texts that hold no messages."""
    return all(
        len(side) == 1 and not side[0].carried and side[0].content == text
        for text, side in zip(sides, read, strict=True)
    )


def _need(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is None:
        raise Invalid(name, None, f"`{name}` is required: text or a message list")
    return value


def _order(side: Conversation) -> list[tuple[str, str, str]]:
    return [(message.role, message.content, message.carried) for message in side]
