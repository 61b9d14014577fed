"""Where a pair's prompt ends: the turns that both sides share, or the words that both texts begin with."""

from __future__ import annotations

from os.path import commonprefix

from store import import_notes
from store.errors import Invalid
from store.message import Conversation, Message
from store.message_text import within

NO_PROMPT = "text or a message list, as `prompt` or `messages`"


def split_pair(
    prompt: Conversation | None, chosen: Conversation, rejected: Conversation
) -> tuple[Conversation, Conversation, Conversation]:
    """Return prompt, chosen and rejected, of which both sides begin with the assistant.

    A side that begins with somebody else, or with the prompt, is the whole conversation. The prompt then is all that both
    share up to the last turn that is not the assistant's, so that no side holds a question. Raises `Invalid`.
    """
    one, other = _whole(prompt, chosen), _whole(prompt, rejected)
    given = len(prompt) if prompt and one[: len(prompt)] == prompt == other[: len(prompt)] else 0
    parts = next((n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), None)
    if parts is None:
        parts = min(len(one), len(other)) - 1
    end = parts
    while end > given and one[end - 1].role == "assistant":
        end -= 1
    if not end:
        raise Invalid("prompt", None, NO_PROMPT + "; or sides that begin with the same question")
    for side, turns in (("chosen", one), ("rejected", other)):
        if turns[parts].role != "assistant" or turns[end].role != "assistant":
            raise Invalid(
                f"{side}[{parts}].role",
                turns[parts].role,
                "assistant: a pair compares answers to one question, and here its sides part",
            )
    asked = one[:end]
    if prompt is not None and not given:
        asked = _checked(prompt, asked)
    if prompt is None or end > given:
        import_notes.rule("prompt_from_shared_turns")
    return asked, one[end:], other[end:]


def split_completion(
    prompt: Conversation | None, answer: Conversation
) -> tuple[Conversation | None, Conversation]:
    """Return prompt and completion, which begins with the assistant. Raises `Invalid`.

    A completion that begins with somebody else is the whole conversation: its last answer is what to learn.
    """
    whole = _whole(prompt, answer)
    if prompt is not None and whole[: len(prompt)] == prompt and whole[len(prompt)].role == "assistant":
        return prompt, whole[len(prompt) :]
    if whole[0].role == "assistant":
        return prompt, whole
    end = max(place for place, message in enumerate(whole) if message.role != "assistant") + 1
    import_notes.rule("prompt_from_shared_turns")
    asked = whole[:end]
    return (asked if prompt is None else _checked(prompt, asked)), whole[end:]


def split_texts(chosen: str, rejected: str) -> tuple[Conversation, Conversation, Conversation]:
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
    import_notes.rule("prompt_from_shared_words")
    return (
        (Message("user", shared[:end]),),
        (Message("assistant", chosen[end:]),),
        (Message("assistant", rejected[end:]),),
    )


def _whole(prompt: Conversation | None, answer: Conversation) -> Conversation:
    """Return the conversation from its start that an answer ends."""
    if prompt is None:
        return answer
    repeats = len(answer) > len(prompt) and answer[: len(prompt)] == prompt
    goes_on = prompt[-1].role == "assistant" and answer[0].role != "system" and answer[0] != prompt[0]
    if repeats or not (goes_on or answer[0].role in ("assistant", "tool")):
        return answer
    return prompt + answer


def _checked(prompt: Conversation, asked: Conversation) -> Conversation:
    """Return the prompt that messages say, given another that is to say no more than they do."""
    if prompt[-len(asked) :] == asked:
        return prompt  # with a system message, which the sides leave out
    said = [message.content.strip() for message in asked]
    for message in prompt:
        if not any(within(message.content.strip(), text) for text in said):
            raise Invalid(
                "prompt", message.content, "a question that is among the turns that both sides begin with"
            )
    return asked
