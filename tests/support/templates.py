"""Chat templates of the kinds that models really have, for tests of what a row becomes."""

from __future__ import annotations

_TURNS = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
_OPENING = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{{ m['content'].split('</think>')[-1] if m['role'] == 'assistant' else m['content'] }}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
)

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message is taken') }}{% endif %}"
    + _TURNS.replace("m['content']", "m['content'] | trim")
    + _OPENING
)
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}" + _OPENING
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['reasoning_content'] %}{{ '<think>' + m['reasoning_content'] + '</think>' }}{% endif %}{{ m['content'] }}"
    "{% for call in m['tool_calls'] %}{{ '<call>' + call['function']['name'] }}{{ call['function']['arguments'] | tojson }}"
    "{{ '</call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}" + _OPENING
)
"""Writes definitions of tools, calls and reasoning."""

SWITCHED = (
    "{% if style is defined %}{{ 'Style: ' + style + '\n' }}{% endif %}"
    + _TURNS.replace("m['content']", "(m['content'] or '')")
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""Reads `enable_thinking` as Qwen3's does, and `style`."""

TEMPLATES = {
    "chatml": _TURNS + _OPENING,
    "no system": NO_SYSTEM,
    "alternate": ALTERNATE,
    "open think": _THINKING
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
    "no generation prompt": _TURNS,
    "no end token": (
        "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
    ),
    "last message alone": (
        "{% set m = messages[-1] %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
        + _OPENING
    ),
    "developer": (
        "{% for m in messages %}{% if m['role'] == 'developer' %}{{ '# ' + m['content'] + '\\n' }}"
        "{% else %}{{ m['role'] + ': ' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    ),
    "parts": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
        "{% if m['content'] is string %}{{ 'TEXT ' + m['content'] }}{% else %}"
        "{% for part in m['content'] %}{{ '<' + part['text'] + '>' }}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\\n' }}{% endfor %}" + _OPENING
    ),
    "parts in a macro": (
        "{% macro said(given) %}{% if given is string %}{{ 'TEXT ' + given }}{% else %}"
        "{% for part in given %}{{ part['text'] }}{% endfor %}{% endif %}{% endmacro %}"
        "{% set turns = messages %}{% for m in turns %}{{ m['role'] + ': ' + said(m['content']) + '<|end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    ),
}
"""By what is particular about each."""
