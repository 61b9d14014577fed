"""Modelfiles of GGUF exports: a Go template where the Jinja one only puts texts around contents."""

from __future__ import annotations

from typing import Any

import pytest

from align.training.exports.modelfile import texts_around, write_modelfile
from align.training.texts.chat_template import render
from tests.support.models import SPECIALS, make_tokenizer

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|system|>\nHelp.<|end|>\n{% endif %}"
    "<|{{ m['role'] }}|>\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{{ start }}{% endif %}"
)
FOLDED = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages if m['role'] != 'system' %}<|{{ m['role'] }}|>{{ system if loop.first }}{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LAST = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] if loop.last or m['role'] == 'user' }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHORT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TALK = [
    {"role": "system", "content": "Answer in French."},
    {"role": "user", "content": 'Say "hi".'},
    {"role": "assistant", "content": "Salut {{ toi }}."},
    {"role": "user", "content": "Again"},
]


def tokenizer(template: str) -> Any:
    return make_tokenizer(template, SPECIALS, "<|end|>")


@pytest.mark.parametrize("template", [CHATML, SHORT])
@pytest.mark.parametrize("talk", [TALK, TALK[1:], TALK[1:2]])
def test_texts_around_contents_make_the_same_prompt(template: str, talk: list[dict[str, str]]) -> None:
    made = tokenizer(template)
    around = texts_around(made, {})
    assert around is not None
    assert around.render(talk) == render(made, talk, True)


@pytest.mark.parametrize("template", [FOLDED, LAST, STRICT])
def test_a_template_that_does_more_has_no_go_form(template: str) -> None:
    made = tokenizer(template)
    assert texts_around(made, {}) is None
    text = write_modelfile("assistant@1", "a.gguf", made, None, {})
    assert "# No TEMPLATE: this chat template has no simple Go form." in text
    assert "TEMPLATE " not in text.replace("# No TEMPLATE", "")


def test_a_go_template_keeps_blanks_and_braces_as_they_are() -> None:
    around = texts_around(tokenizer(CHATML), {"start": "{{ok}}"})
    assert around is not None
    assert around.go() == (
        '{{ if not .System }}{{ "<|system|>\\nHelp.<|end|>\\n" }}{{ end }}'
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{ if eq .Role "system" }}{{ "<|system|>\\n" }}{{ .Content }}{{ "<|end|>\\n" }}{{ end }}'
        '{{ if eq .Role "user" }}{{ "<|user|>\\n" }}{{ .Content }}{{ "<|end|>\\n" }}{{ end }}'
        '{{ if eq .Role "assistant" }}{{ "<|assistant|>\\n" }}{{ .Content }}'
        '{{ if not $last }}{{ "<|end|>\\n" }}{{ end }}{{ end }}'
        '{{ if and $last (ne .Role "assistant") }}{{ "<|assistant|>\\n{{ok}}" }}{{ end }}'
        "{{ end }}"
    )


def test_a_token_that_is_added_to_every_text_is_not_in_the_template() -> None:
    from tokenizers.processors import TemplateProcessing

    made = make_tokenizer("<|system|>" + SHORT, SPECIALS, "<|end|>", bos="<|system|>")
    around = texts_around(made, {})
    assert around is not None
    assert around.without_system == "<|system|>"
    number = made.bos_token_id
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", number)]
    )
    around = texts_around(made, {})
    assert around is not None
    assert around.without_system == ""
    assert around.render(TALK[1:]) == render(made, TALK[1:], True).removeprefix("<|system|>")


def test_sampling_is_written_with_what_an_engine_here_does_without() -> None:
    sampling = {"top_k": -1, "temperature": 0, "seed": 7, "stop": ["END", 'a"b']}
    lines = write_modelfile("assistant@1", "a.gguf", tokenizer(SHORT), None, sampling).splitlines()
    assert lines[3:] == [
        "PARAMETER temperature 0",
        "PARAMETER top_p 1.0",
        "PARAMETER top_k 0",
        "PARAMETER min_p 0.0",
        "PARAMETER repeat_penalty 1.0",
        "PARAMETER seed 7",
        'PARAMETER stop """END"""',
        'PARAMETER stop """a"b"""',
    ]


@pytest.mark.parametrize(
    ("prompt", "quoted"),
    [
        ('Say "hi".\n\nThen stop.', True),
        ('As code:\n"""doc""" and more', True),
        ('As code:\n"""\nText', False),
        ('"""  \nText', False),
        ("A\u00a0blank", False),
    ],
)
def test_a_system_prompt_that_ollama_would_cut_is_left_out(prompt: str, quoted: bool) -> None:
    text = write_modelfile("assistant@1", "a.gguf", tokenizer(SHORT), prompt, {})
    assert (f'SYSTEM """{prompt}"""' in text) == quoted
    assert ("# The system prompt holds what a Modelfile cannot quote" in text) != quoted
