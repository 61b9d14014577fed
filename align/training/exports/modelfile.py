"""The Modelfile of a GGUF export: file, chat template, system prompt and sampling, for Ollama.

Ollama renders either its own Go template or the Jinja one that the file carries, depending on its version and on what each
can do. So the Modelfile has a Go template that says the same as the Jinja one for plain conversations: it is composed of the
texts around the contents, and compared with the Jinja one before it is written. Where there is none, it is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.training.texts.chat_template import Refused, render

# in order: the name in a release's sampling, the name in a Modelfile, and what an engine here does without one
PARAMETERS: tuple[tuple[str, str, float | None], ...] = (
    ("temperature", "temperature", 1.0),
    ("top_p", "top_p", 1.0),
    ("top_k", "top_k", 0),
    ("min_p", "min_p", 0.0),
    ("repetition_penalty", "repeat_penalty", 1.0),
    ("presence_penalty", "presence_penalty", None),
    ("frequency_penalty", "frequency_penalty", None),
    ("max_tokens", "num_predict", None),
    ("seed", "seed", None),
)
KWARGS = "chat_template_kwargs"
QUOTES = '"""'
SYSTEM, USER, ASSISTANT, NEXT = "zqsystemzq", "zquserzq", "zqassistantzq", "zqnextzq"

Message = Mapping[str, str]
Rendering = Callable[[Sequence[Message], bool], str]


@dataclass(frozen=True)
class Around:
    """The texts around the contents of messages, by role, and before the first where no system message is.

    `generation` is what follows the last message before an answer.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    without_system: str
    generation: str

    def render(self, messages: Sequence[Message], generation: bool = True) -> str:
        """Return a conversation as the Go template renders it."""
        text = "" if messages[0]["role"] == "system" else self.without_system
        for message in messages:
            role = message["role"]
            text += self.before[role] + message["content"] + self.after[role]
        return text + (self.generation if generation else "")

    def go(self) -> str:
        """Return the Go template; an assistant's message at the end is continued."""
        after = {role: _literal(text) for role, text in self.after.items()}
        after["assistant"] = f"{{{{ if not $last }}}}{after['assistant']}{{{{ end }}}}"
        roles = [
            f'{{{{ if eq .Role "{role}" }}}}{_literal(before)}{{{{ .Content }}}}{after[role]}{{{{ end }}}}'
            for role, before in self.before.items()
        ]
        return (
            f"{{{{ if not .System }}}}{_literal(self.without_system)}{{{{ end }}}}"
            "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            + "".join(roles)
            + f'{{{{ if and $last (ne .Role "assistant") }}}}{_literal(self.generation)}{{{{ end }}}}'
            "{{ end }}"
        )


def write_modelfile(
    name: str, file: str, tokenizer: Any, prompt: str | None, sampling: Mapping[str, Any]
) -> str:
    """Return the text of a Modelfile for the weights in `file`, which lies beside it."""
    lines = [f"# {name}: ollama create NAME -f Modelfile", f"FROM ./{file}"]
    around = texts_around(tokenizer, sampling.get(KWARGS) or {})
    if around is None:
        lines.append(
            "# No TEMPLATE: this chat template has no simple Go form. Ollama runs the file's own, where its version can."
        )
    else:
        lines.append(f"TEMPLATE {QUOTES}{around.go()}{QUOTES}")
    if prompt and _is_quotable(prompt):
        lines.append(f"SYSTEM {QUOTES}{prompt}{QUOTES}")
    elif prompt:
        lines.append(
            "# The system prompt holds what a Modelfile cannot quote: send system_prompt.txt with each request."
        )
    for field, there, default in PARAMETERS:
        value = sampling.get(field)
        value = default if value is None else value
        if value is not None:
            lines.append(f"PARAMETER {there} {0 if (there, value) == ('top_k', -1) else value}")
    stops = sampling.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    lines += [f"PARAMETER stop {QUOTES}{stop}{QUOTES}" for stop in stops if _is_quotable(stop)]
    return "\n".join(lines) + "\n"


def texts_around(tokenizer: Any, kwargs: Mapping[str, Any]) -> Around | None:
    """Return the texts that a chat template puts around contents; None where it does more than that.

    A beginning-of-sequence token that the tokenizer adds by itself is left out, since what runs the file adds it too.
    """

    def rendered(messages: Sequence[Message], generation: bool) -> str:
        return render(tokenizer, messages, generation, kwargs).removeprefix(bos)

    bos = _added_bos(tokenizer)
    try:
        found = _compose(rendered)
        same = all(
            found.render(chat, generation) == rendered(chat, generation) for chat, generation in _examples()
        )
    except (Refused, ValueError):
        return None
    return found if same else None


def _compose(rendered: Rendering) -> Around:
    """Return the texts around the contents of example conversations. Raises `ValueError` where a content is missing."""
    system, user, assistant, following = (
        _message("system", SYSTEM), _message("user", USER), _message("assistant", ASSISTANT), _message("user", NEXT),
    )  # fmt: skip
    start, after_user = _split(rendered([user], False), USER)
    generation = _rest(rendered([user], True), start + USER + after_user)
    _, to_assistant, to_next, _ = _split(rendered([user, assistant, following], False), USER, ASSISTANT, NEXT)
    *_, after_assistant = _split(rendered([user, assistant], False), USER, ASSISTANT)
    before_user = _rest(to_next, after_assistant)
    before_system, to_user, _ = _split(rendered([system, user], False), SYSTEM, USER)
    return Around(
        before={"system": before_system, "user": before_user, "assistant": _rest(to_assistant, after_user)},
        after={"system": _start(to_user, before_user), "user": after_user, "assistant": after_assistant},
        without_system=_start(start, before_user),
        generation=generation,
    )


def _examples() -> list[tuple[list[Message], bool]]:
    """Return conversations that show whether a template does more than putting texts around contents."""
    asked, answered = [_message("user", "Why 17?")], [_message("assistant", "Since 16 + 1.\n\nSee?")]
    long = [
        *asked,
        *answered,
        _message("user", "And é?"),
        _message("assistant", "No."),
        _message("user", "Well"),
    ]
    system = [_message("system", "Be brief.")]
    return [(chat, True) for chat in (asked, [*system, *asked], long, [*system, *long])]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _split(text: str, *contents: str) -> list[str]:
    """Return what is before, between and after contents. Raises `ValueError` unless each is there once, in order."""
    parts = []
    for content in contents:
        if text.count(content) != 1:
            raise ValueError(f"{content} is in the text {text.count(content)} times")
        before, _, text = text.partition(content)
        parts.append(before)
    return [*parts, text]


def _rest(text: str, start: str) -> str:
    if not text.startswith(start):
        raise ValueError("a turn is rendered differently at the end of a conversation")
    return text[len(start) :]


def _start(text: str, end: str) -> str:
    if not text.endswith(end):
        raise ValueError("a turn is rendered differently at the start of a conversation")
    return text[: len(text) - len(end)]


def _added_bos(tokenizer: Any) -> str:
    bos = tokenizer.bos_token
    ids = tokenizer("x").input_ids
    return str(bos) if bos and len(ids) > 1 and ids[0] == tokenizer.bos_token_id else ""


def _literal(text: str) -> str:
    """Return a text as an action, so that no blank of it is trimmed and no brace of it is read."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _is_quotable(text: str) -> bool:
    """Return whether Ollama's parser reads a quoted text back: three quotes end a line, or characters are not kept."""
    kept = all(character.isprintable() or character in "\n\t" for character in text)
    return kept and not any(line.rstrip().endswith(QUOTES) for line in text.split("\n"))
