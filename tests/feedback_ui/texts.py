"""Texts as models write them, whose characters a page must show; and what Markdown alone may take away."""

from __future__ import annotations

LITERAL = {
    "header in angle brackets": "To sort, write #include <algorithm> first, then call std::sort on the list.",
    "comparison": "If a<b and c>d then the two intervals overlap, and 3 < 5 > 4 holds.",
    "generics": "Use Map<String, List<Integer>> or vector<pair<int,int>> v; a<b>(c) calls it.",
    "placeholder": "Run ssh <user>@<host> and replace <your name here> and </your end>.",
    "script": "Put <script>start()</script> at the end of the page and it runs last.",
    "style": "Set <style>body{display:none}</style> in the head of the page.",
    "page": "<!doctype html>\n<html>\n<head><title>Hi</title></head>\n\n<body onload='x()'>Hi &amp; bye</body>\n</html>",
    "comment": "Before <!-- nobody sees this --> after, and <![CDATA[ data ]]> and <?xml version='1.0'?>.",
    "unclosed": "It ends with <textarea> and <div class='a and <plaintext>",
    "picture": 'Here: <img src="http://127.0.0.1:9/y.png"> and ![z](http://127.0.0.1:9/z.png "t") done',
    "svg": "<svg><image href='http://127.0.0.1:9/s.png'/><style>@import 'http://127.0.0.1:9/s.css'</style></svg>",
    "reasoning": "<think>First I compare a<b.</think>Then I answer.",
    "open reasoning": "<think>First I compare <i>this</i>",
    "reasoning in the middle": "Well. <think>hm</think> Yes. <reasoning>no</reasoning>",
    "tool call": '<tool_call>\n{"name": "get", "arguments": {"city": "<unknown>"}}\n</tool_call>',
    "special tokens": "<|im_start|>assistant\n<|im_end|> [INST] <s> </s> <<SYS>>",
    "money": "It costs $5 and then $10; $$20$$ is too much, and $x is a variable.",
    "formula": r"So \(a^2 + b^2\) and \[c^2\] and \frac{1}{2}, \\ and \$5.",
    "entities": "Write &lt;b&gt; for <b>, &amp; for &, &nbsp; and &#60; too.",
    "backslashes": r"Open C:\Users\_new\*.txt and escape \* and \_ and \<.",
    "dunder": "Call __init__ and __name__, snake_case, _private_ and *args, **kwargs.",
    "products": "2*3*4 is 24, a*b*c too, and f(*args, **kwargs) /* one */ x /* two */ y.",
    "prompt": ">>> print(1)\n1\n>>> len('<a>')",
    "definition": "See [1] and [a][1].\n\n[1]: http://example.org/page\n[^2]: a note",
    "templates": "Write {{ name }} and ${1 + 1} and `{x}` and <%= y %> and #{z}.".replace("`", "'"),
    "numbers": "1. one\n1. one again\n7) seven\n\n1984. It was a year.",
    "plus": "5\n+ 3\n+ 4\nis 12",
    "underline": "Total\n=====\nSum",
    "addresses": "See <https://example.org/a?b=1&c=2>, https://example.org/d. and <me@example.org>.",
    "scripts of the world": "Привет <мир>, 你好<世界>, مرحبا <بك>, 👩‍👩‍👧 <é>",
    "indentation": "if x<1:\n    return <y>\n\telse: z",
    "script link": "[click](javascript:alert(1)) [data](data:text/html,x) [file](file:///etc/passwd)",
}
"""Texts of which every character is shown."""

CODE = {
    "tildes": ("~~~python\nprint(1)", "python print(1)"),
    "backticks": ("```html\n<p>&amp;</p>\n```\nafter", "html <p>&amp;</p> after"),
    "inline": ("Use `#include <x>` and ``a`b``.", "Use #include <x> and a`b."),
    "cut off": ("Text\n\n```\nif a<b:\n    c", "Text if a<b: c"),
    "mermaid": ("```mermaid\ngraph TD; A-->B\n```", "mermaid graph TD; A-->B"),
    "fence in a fence": ("````md\n```py\nx\n```\n````", "md ```py x ```"),
}
"""Code and what is shown of it: everything but the fence."""


def letters(text: str) -> str:
    """A text without its white space."""
    return "".join(text.split())
