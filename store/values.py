"""The values that go all the way round: store -> align -> serve -> feedback_ui.

Frozen, without ids, without storage. Each has a `content_hash`, a SHA-256 in hex of its roles and texts: what
a value says decides the hash, not where it is kept nor its weight and tags. Not covered: content that is not
text (images, tool calls); `Message.from_json` joins text parts and refuses the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any

from store.chat_messages import part_text, text_of
from store.errors import Invalid

MESSAGE_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: `role` (one of `MESSAGE_ROLES`) and text."""

    role: str
    content: str

    @property
    def content_hash(self) -> str:
        """SHA-256 of the message."""
        return _digest((self,))

    def to_json(self) -> dict[str, str]:
        """Return `{"role", "content"}`."""
        return {"role": self.role, "content": self.content}

    @classmethod
    def from_json(cls, value: object, where: str = "message") -> Message:
        """Read `{"role", "content"}`; content is text, a list of text parts, or null of an assistant's message.

        It is kept as the one text that a model reads of it (see `store.chat_messages`). Raises `Invalid`, naming the place
        `where`, for anything else, and for tool calls. Other keys are ignored.
        """
        if isinstance(value, Message):
            return value
        if not isinstance(value, Mapping):
            raise Invalid(where, value, "an object with role and content")
        role = value.get("role")
        if role not in MESSAGE_ROLES:
            raise Invalid(f"{where}.role", role, MESSAGE_ROLES)
        content = value.get("content")
        if value.get("tool_calls"):
            raise Invalid(f"{where}.tool_calls", value["tool_calls"], "none: tool calls are not kept")
        if isinstance(content, list):
            for i, part in enumerate(content):
                if part_text(part) is None:
                    raise Invalid(
                        f"{where}.content[{i}]", part, 'a text part: {"type": "text", "text": "..."}'
                    )
        elif not isinstance(content, str) and not (content is None and role == "assistant"):
            raise Invalid(f"{where}.content", content, "text, or a list of text parts")
        return cls(str(role), _unicode(text_of(content) or "", f"{where}.content"))


Conversation = tuple[Message, ...]


def conversation(value: object, where: str = "messages", role: str = "user") -> Conversation:
    """Read a conversation from text (one message of `role`) or from a non-empty list of messages.

    Raises `Invalid` naming the place for anything else, and for text that is blank.
    """
    if isinstance(value, str):
        if not value.strip():
            raise Invalid(where, value, "text that is not blank, or a list of messages")
        return (Message(role, _unicode(value, where)),)
    if not isinstance(value, Sequence) or not value:
        raise Invalid(where, value, "text, or a list of messages with at least one")
    return tuple(Message.from_json(item, f"{where}[{i}]") for i, item in enumerate(value))


def completion(value: object, where: str) -> Conversation:
    """Read what follows a prompt: text or messages, ending with an assistant message that is not blank."""
    read = conversation(value, where, role="assistant")
    if read[-1].role != "assistant":
        raise Invalid(
            f"{where}[{len(read) - 1}].role", read[-1].role, "assistant (a response ends with the assistant)"
        )
    if not read[-1].content.strip():
        raise Invalid(where, read[-1].content, "a response that is not blank")
    return read


def characters(*parts: Iterable[Message]) -> int:
    """Return how many characters messages hold together."""
    return sum(len(message.content) for part in parts for message in part)


def to_json(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return the messages as a list of `{"role", "content"}`."""
    return [message.to_json() for message in messages]


def conversation_hash(messages: Iterable[Message]) -> str:
    """SHA-256 of a conversation: what identifies a prompt."""
    return _digest(messages)


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
        return _digest(self.prompt, self.chosen, self.rejected)

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
        prompt, chosen, rejected = _said(self.prompt), _said(self.chosen), _said(self.rejected)
        content = _sha256([prompt, chosen, rejected])
        in_order = _order(self.chosen) <= _order(self.rejected)
        versus = content if in_order else _sha256([prompt, rejected, chosen])
        return content, versus, _sha256([prompt])

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

        Where `chosen` and `rejected` begin with the same messages as the prompt (or no prompt is given),
        these are taken as the prompt; of texts without a prompt, the words that both begin with. Raises `Invalid` naming
        the field.
        """
        chosen = completion(_need(row, "chosen"), "chosen")
        rejected = completion(_need(row, "rejected"), "rejected")
        prompt = read_prompt(row)
        if prompt is None and isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
            prompt, chosen, rejected = _implicit(row["chosen"], row["rejected"])
        elif prompt is None:
            shared = 0
            while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
                shared += 1
            if not shared:
                raise Invalid("prompt", None, "text or a message list, as `prompt` or `messages`")
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        else:
            chosen, rejected = _after(prompt, chosen), _after(prompt, rejected)
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
        return _digest(self.prompt, self.completion)

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
            return cls(prompt[:-1], completion(prompt[-1:], "messages"), read_tags(row))
        if prompt is None:
            raise Invalid("prompt", None, "text or a message list, as `prompt` or `messages`")
        answer = _after(prompt, completion(_need(row, "completion"), "completion"))
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
        return _digest(self.prompt, self.completion, (Message("tool", str(self.label)),))

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
        read = Demonstration.from_json({key: value for key, value in row.items() if key != "label"})
        return cls(read.prompt, read.completion, label)


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe text and the log-probabilities that models gave it.

    `token_ids` has length T; `logprobs` maps the name of a model state ("base", "adapter", "nf4_adapter") to
    T - 1 natural-log probabilities, of tokens 1 to T - 1 given those before.
    """

    token_ids: tuple[int, ...]
    logprobs: dict[str, list[float]] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the token ids."""
        return hashlib.sha256(",".join(map(str, self.token_ids)).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return `{"token_ids", "logprobs"}`."""
        return {"token_ids": list(self.token_ids), "logprobs": self.logprobs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Probe:
        """Read what `to_json` wrote; raises `Invalid` naming the field."""
        ids = _need(value, "token_ids")
        if not isinstance(ids, Sequence) or not all(isinstance(i, int) for i in ids):
            raise Invalid("token_ids", ids, "a list of integers")
        logprobs = value.get("logprobs") or {}
        if not isinstance(logprobs, Mapping):
            raise Invalid("logprobs", logprobs, "an object of lists of numbers")
        return cls(tuple(ids), {str(name): [float(x) for x in series] for name, series in logprobs.items()})


def versus_hash(prompt: Conversation, one: Conversation, other: Conversation) -> str:
    """SHA-256 of a prompt and two responses in either order."""
    return _digest(prompt, *sorted((one, other), key=_order))


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
    return tuple(sorted({_unicode(tag.strip(), "tags") for tag in read}))


def read_weight(row: Mapping[str, Any]) -> float:
    """Read the optional `weight` of a row: above 0, at most 1."""
    weight = row.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise Invalid("weight", weight, "a number above 0, at most 1")
    return float(weight)


def _after(prompt: Conversation, answer: Conversation) -> Conversation:
    if len(answer) > len(prompt) and answer[: len(prompt)] == prompt:
        return answer[len(prompt) :]
    return answer


def _implicit(chosen: str, rejected: str) -> tuple[Conversation, Conversation, Conversation]:
    """Split two texts after the words that they begin with, as TRL's `extract_prompt` does, but never within a word."""
    shared = commonprefix([chosen, rejected])  # noqa: RUF071 (these are no paths)
    end = max((place for place, sign in enumerate(shared) if sign.isspace()), default=0)
    if not shared[:end].strip():
        raise Invalid(
            "prompt",
            None,
            "text or a message list, or `chosen` and `rejected` that begin with the same words",
        )
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if text == shared or not text[end:].strip():
            raise Invalid(side, text, "text that goes on after the words that both sides begin with")
    return (
        (Message("user", shared[:end]),),
        (Message("assistant", chosen[end:]),),
        (Message("assistant", rejected[end:]),),
    )


def _unicode(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(where, text, "text that is valid Unicode (in UTF-8; no lone surrogates)") from None
    return text


def _need(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is None:
        raise Invalid(name, None, f"`{name}` is required: text or a message list")
    return value


def _digest(*parts: Iterable[Message]) -> str:
    """Hash conversations: each message as role, length and text, so that nothing can pass for a separator."""
    return _sha256([_said(part) for part in parts])


def _said(part: Iterable[Message]) -> str:
    return "".join([f"{m.role} {len(m.content)} {m.content}" for m in part])


def _sha256(said: list[str]) -> str:
    return hashlib.sha256("|".join(said).encode()).hexdigest()


def _order(side: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in side]
