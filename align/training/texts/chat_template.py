"""A conversation as the text that the model sees, equal to what vLLM renders of it.

vLLM changes messages right before the chat template: a `developer` message becomes a `system` message where the template
does not know that role (and then all of them are one, in front), texts become lists of parts where the template reads
parts, arguments of tool calls become objects. A model that is trained on a rendering without these changes is trained on
other tokens than it is served with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, nodes

from align.errors import AlignError
from common.chat_messages import text_of, tools_of, without_tools

Messages = Sequence[Mapping[str, Any]]

BILLING_HEADER = (
    "x-anthropic-billing-header"  # a line of some clients, which vLLM takes out of system messages
)
_MARK = "\ufffcanswer\ufffc"


class Refused(AlignError):
    """The chat template does not render this conversation; the message is its reason."""

    kind = "chat_template"


def render(
    tokenizer: Any,
    messages: Messages,
    add_generation_prompt: bool,
    template_options: Mapping[str, Any] | None = None,
) -> str:
    """Return the text that the model sees for `messages`. Raises `Refused`."""
    tools = tools_of(messages)
    template = template_of(tokenizer, tools)
    try:
        text: str = tokenizer.apply_chat_template(
            prepared(without_tools(messages), template),
            tools=tools,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **(template_options or {}),
        )
    except Exception as error:  # a template can raise anything: it is a program that came with the model
        reason = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise Refused(reason) from error
    return text


def template_of(tokenizer: Any, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Return the chat template that renders a conversation with these tools: some models have one of their own for them."""
    template: str = tokenizer.get_chat_template(tools=tools)
    return template


def prepared(messages: Messages, template: str) -> list[dict[str, Any]]:
    """Return messages as vLLM hands them to `template`."""
    parts = reads_parts(template)
    found = [_message(message, parts) for message in messages]
    if any(m["role"] == "developer" for m in found) and not _knows_developer(template):
        found = _system_first([{**m, "role": "system"} if m["role"] == "developer" else m for m in found])
    return found


def answer_end(tokenizer: Any, template_options: Mapping[str, Any] | None = None) -> str:
    """Return what the template writes after an answer, such as its end token. Raises `Refused`."""
    asked = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    return render(tokenizer, asked, False, template_options).partition(_MARK)[2]


def differences(tokenizer: Any, template_options: Mapping[str, Any] | None = None) -> list[str]:
    """Return notes on how the template makes a finished conversation differ from what is served."""
    asked = [{"role": "user", "content": "?"}]
    try:
        opened, bare = (render(tokenizer, asked, begin, template_options) for begin in (True, False))
        answered = [*asked, {"role": "assistant", "content": _MARK}]
        whole = render(tokenizer, answered, False, template_options)
    except Refused as refusal:
        return [f"the chat template refuses a question and its answer: {refusal}"]
    notes = []
    if opened == bare:
        notes.append(
            "the chat template has no generation prompt: the model has to begin an answer's turn by itself"
        )
    if not whole.startswith(opened):
        tail = opened.removeprefix(bare)
        notes.append(
            f"the chat template's generation prompt ({tail!r}) is not how it begins an answer of a finished "
            "conversation: trained as served, the answer right after the generation prompt"
        )
    if not _has_special(tokenizer, whole.partition(_MARK)[2]):
        notes.append(
            "the chat template writes no end token after an answer: the model can't learn where to stop"
        )
    return notes


def thinks(prompt: str) -> bool:
    """Return whether a rendered prompt leaves the model within an open `<think>`."""
    return prompt.rstrip().endswith("<think>")


@lru_cache(maxsize=32)
def reads_parts(template: str) -> bool:
    """Return whether a template goes through the parts of a message's content; then vLLM gives it lists of parts."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        tree = _compile_jinja_template(template).environment.parse(template)
    except TemplateError:
        return False
    message_names = _loop_names(tree, _aliases(tree, "messages"))
    in_macros: set[int] = set()
    for macro in tree.find_all(nodes.Macro):
        given = _content_parameters(tree, macro, message_names)
        for loop in macro.find_all(nodes.For):
            in_macros.add(id(loop))
            if (name := _name(loop.iter)) and name in given:
                return True
    return any(
        _is_content(loop.iter, message_names) or (id(loop) not in in_macros and _name(loop.iter) == "content")
        for loop in tree.find_all(nodes.For)
    )


def _message(message: Mapping[str, Any], parts: bool) -> dict[str, Any]:
    made = dict(message)
    content = message.get("content")
    if (text := text_of(content)) is not None:
        if message["role"] == "system" and text.startswith(BILLING_HEADER):
            text = text.partition("\n")[2]
        made["content"] = text
        if parts and message["role"] != "tool":
            made["content"] = [] if content is None else [{"type": "text", "text": text}]
    if (reasoning := made.pop("reasoning_content", None)) is not None and message["role"] == "assistant":
        made |= {"reasoning": reasoning, "reasoning_content": reasoning}  # templates read either
    if message["role"] == "assistant" and "tool_calls" in message:
        calls = made.pop("tool_calls")
        if calls:
            made["tool_calls"] = [_tool_call(call) for call in calls]
    return made


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    function["arguments"] = arguments if isinstance(arguments, dict) else {}
    return {**call, "function": function}


def _knows_developer(template: str) -> bool:
    return '"developer"' in template or "'developer'" in template


def _system_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one system message in front of several, or of one further back."""
    own = [m for m in messages if m["role"] == "system"]
    if len(own) == 1 and messages[0] is own[0]:
        return messages
    texts = [text for m in own if (text := text_of(m["content"]))]
    return [
        {"role": "system", "content": "\n\n".join(texts)},
        *(m for m in messages if m["role"] != "system"),
    ]


def _has_special(tokenizer: Any, text: str) -> bool:
    return any(token in text for token in tokenizer.all_special_tokens if token)


def _aliases(tree: nodes.Template, name: str) -> set[str]:
    """Return the variables that hold `name`, a slice of it or what a filter makes of it."""
    found = {name}
    assignments = list(tree.find_all(nodes.Assign))
    while True:
        more = {
            a.target.name
            for a in assignments
            if isinstance(a.target, nodes.Name) and (source := _name(a.node)) and source in found
        }
        if more <= found:
            return found
        found |= more


def _loop_names(tree: nodes.Template, lists: set[str]) -> set[str]:
    return {
        loop.target.name
        for loop in tree.find_all(nodes.For)
        if isinstance(loop.target, nodes.Name) and (name := _name(loop.iter)) and name in lists
    }


def _content_parameters(tree: nodes.Template, macro: nodes.Macro, message_names: set[str]) -> set[str]:
    names = [argument.name for argument in macro.args]
    given: set[str] = set()
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == macro.name:
            pairs = [*zip(names, call.args, strict=False), *((k.key, k.value) for k in call.kwargs)]
            given |= {name for name, value in pairs if _is_content(value, message_names)}
    return given


def _bare(node: nodes.Node | None) -> nodes.Node | None:
    """Return what filters, tests and slices are applied to."""
    while isinstance(node, nodes.Filter | nodes.Test) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    return node


def _name(node: nodes.Node | None) -> str | None:
    bare = _bare(node)
    return bare.name if isinstance(bare, nodes.Name) else None


def _is_content(node: nodes.Node | None, message_names: set[str]) -> bool:
    bare = _bare(node)
    if isinstance(bare, nodes.Getattr):
        key: object = bare.attr
    elif isinstance(bare, nodes.Getitem) and isinstance(bare.arg, nodes.Const):
        key = bare.arg.value
    else:
        return False
    return key == "content" and isinstance(bare.node, nodes.Name) and bare.node.name in message_names
