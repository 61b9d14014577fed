"""A row of a snapshot as the texts that a model is trained on: its prompt as served, and each answer after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from align.messages import was_cut, whole_row
from align.training.texts.chat_template import Refused, answer_end, render, thinks
from common.chat_messages import context_of, served
from common.sequences import common_prefix_length

END_OF_THINKING = "\n</think>\n\n"


class _Template:
    """The chat template of a tokenizer with further arguments."""

    def __init__(self, tokenizer: Any, options: Mapping[str, Any]) -> None:
        self._tokenizer, self._options = tokenizer, options

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        return render(self._tokenizer, messages, add_generation_prompt, self._options)

    @cached_property
    def answer_end(self) -> str:
        return answer_end(self._tokenizer, self._options)


class RowRenderer:
    """Renders rows with one tokenizer's chat template.

    `system_prompt` goes before the prompts of rows that say nothing of the release that answered. `template_options`
    are further arguments of the template, vLLM's `chat_template_kwargs`, for these rows; others have their release's own.
    """

    def __init__(
        self,
        tokenizer: Any,
        system_prompt: str | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._context = context_of(system_prompt)
        self._template = _Template(tokenizer, dict(template_options or {}))
        self._templates: dict[str, _Template] = {}

    def row(self, record: Mapping[str, Any], names: Sequence[str]) -> list[str]:
        """Return the text of a row's prompt and of the answers in the columns `names`. Raises `Refused`.

        The prompt ends with the generation prompt, as an engine gets it. An answer that was cut has no end token.
        """
        record = whole_row(record)
        messages, template = self._messages(record), self._template_of(record)
        prompt = template.render(messages, True)
        texts = [prompt]
        for name in names:
            answer = record[name]
            text = _answer(template, messages, prompt, answer)
            if was_cut(record.get(f"{name}_finish_reason")):
                text = text.removesuffix(template.answer_end)
            texts.append(text)
        return texts

    def assistant_spans(self, record: Mapping[str, Any], name: str) -> list[tuple[int, int]] | None:
        """Return where the assistant speaks in an answer's text, None where nobody else does. Raises `Refused`.

        As (from, to) in characters of the text that `row` returns. A turn begins where its generation prompt ends and
        ends where the conversation up to it does.
        """
        answer = record[name]
        if isinstance(answer, str) or all(message["role"] == "assistant" for message in answer):
            return None
        record = whole_row(record)
        messages, answer, template = self._messages(record), record[name], self._template_of(record)
        whole = template.render([*messages, *answer], False)
        prompt = template.render(messages, True)
        added = len(_answer(template, messages, prompt, answer)) - len(whole)
        spans = []
        for place, message in enumerate(answer):
            if message["role"] == "assistant":
                before = template.render([*messages, *answer[:place]], True)
                after = template.render([*messages, *answer[: place + 1]], False)
                start, end = (common_prefix_length(part, whole) + added for part in (before, after))
                spans.append((max(0, start) if place else 0, end))
        return spans

    def _messages(self, record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        context = record.get("context")
        return served(record["prompt"], self._context if context is None else context)

    def _template_of(self, record: Mapping[str, Any]) -> _Template:
        options: str | None = record.get("chat_template_kwargs")
        if options is None:
            return self._template
        if options not in self._templates:
            self._templates[options] = _Template(self.tokenizer, json.loads(options))
        return self._templates[options]


def _answer(
    template: _Template, messages: Sequence[Mapping[str, Any]], prompt: str, answer: list[dict[str, str]]
) -> str:
    whole = template.render([*messages, *answer], False)
    if whole.startswith(prompt):
        text = whole[len(prompt) :]
    elif len(answer) == 1:
        text = answer[0]["content"] + template.answer_end
    else:
        raise Refused("it writes an answer of several messages otherwise than after its generation prompt")
    # a model that is served an open <think> has to close it before it answers
    return END_OF_THINKING + text if thinks(prompt) and "</think>" not in text else text
