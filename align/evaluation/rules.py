"""Rules that an answer follows or not, checked in plain code: `{"rule": "max_sentences", "value": 3}`.

They judge win rates (align.evaluation.win_rate) and the instruction-following set (align.evaluation.instructions).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from align.errors import RecipeError
from align.evaluation.health import language_of, refuses, rep4

Kind = type | tuple[type, ...]


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", text)


_SENTENCE_END = re.compile(
    r"(?<=[.!?\u3002\uff01\uff1f])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)[\"')\]]*\s+"
)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; an end mark within a number or a common abbreviation is none."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part.strip()]


def paragraphs(text: str) -> list[str]:
    """Return what blank lines part."""
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def bullets(text: str) -> list[str]:
    """Return the lines that are items of a list."""
    return re.findall(r"(?m)^\s*(?:[-*\u2022]|\d+[.)])\s+\S.*$", text)


def _as_json(text: str) -> Any:
    """Return what a text holds as JSON, fenced or not; `ValueError` where it holds none."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", text, re.DOTALL)
    return json.loads(fenced.group(1) if fenced else text)


def _is_json(text: str, value: bool) -> bool:
    try:
        _as_json(text)
    except ValueError:
        return not value
    return value


def _matches_schema(text: str, schema: Mapping[str, Any]) -> bool:
    from jsonschema import Draft202012Validator  # on first use

    try:
        return bool(Draft202012Validator(schema).is_valid(_as_json(text)))
    except ValueError:
        return False


def _holds(text: str, wanted: Sequence[str]) -> list[bool]:
    lower = text.lower()
    return [re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", lower) is not None for word in wanted]


def _flag(check: Callable[[str], bool]) -> Callable[[str, bool], bool]:
    return lambda text, value: check(text) == value


_LENGTHS: dict[str, Callable[[str], int]] = {
    "sentences": lambda text: len(sentences(text)),
    "words": lambda text: len(words(text)),
    "characters": len,
    "paragraphs": lambda text: len(paragraphs(text)),
    "bullets": lambda text: len(bullets(text)),
}

RULES: dict[str, tuple[Kind, Callable[[str, Any], bool]]] = {
    "exact_bullets": (int, lambda text, n: len(bullets(text)) == n),
    "exact_sentences": (int, lambda text, n: len(sentences(text)) == n),
    "keywords": (list, lambda text, wanted: all(_holds(text, wanted))),
    "any_keyword": (list, lambda text, wanted: any(_holds(text, wanted))),
    "no_keywords": (list, lambda text, wanted: not any(_holds(text, wanted))),
    "starts_with": (str, lambda text, start: text.lstrip().lower().startswith(start.lower())),
    "ends_with": (str, lambda text, end: text.rstrip().lower().endswith(end.lower())),
    "equals": (str, lambda text, wanted: text.strip().lower() == wanted.strip().lower()),
    "regex": (str, lambda text, pattern: re.search(pattern, text) is not None),
    "no_regex": (str, lambda text, pattern: re.search(pattern, text) is None),
    "lower_case": (bool, _flag(lambda text: bool(text) and text == text.lower())),
    "upper_case": (bool, _flag(lambda text: bool(text) and text == text.upper())),
    "comma": (bool, _flag(lambda text: bool(re.search("[,\u3001\uff0c]", text)))),
    "question_mark": (bool, _flag(lambda text: "?" in text or "\uff1f" in text)),
    "digits": (bool, _flag(lambda text: any(letter.isdigit() for letter in text))),
    "json": (bool, _is_json),
    "json_schema": (dict, _matches_schema),
    "quoted": (bool, _flag(lambda text: bool(re.fullmatch(r'\s*["\u201c].*["\u201d]\s*', text, re.DOTALL)))),
    "title": (bool, _flag(lambda text: bool(re.search(r"(?m)^(?:#+ \S|<<.+>>|\*\*.+\*\*\s*$)", text)))),
    "code_block": (bool, _flag(lambda text: bool(re.search(r"```.*?```", text, re.DOTALL)))),
    "language": (str, lambda text, code: language_of(text, 1) == code),
    "refusal": (bool, _flag(refuses)),
    "empty": (bool, _flag(lambda text: not text.strip())),
    "max_rep4": ((int, float), lambda text, most: rep4(text) <= most),
}
for _name, _length in _LENGTHS.items():
    RULES[f"max_{_name}"] = (int, lambda text, n, length=_length: length(text) <= n)  # type: ignore[misc]
    RULES[f"min_{_name}"] = (int, lambda text, n, length=_length: length(text) >= n)  # type: ignore[misc]


def check_rule(rule: Mapping[str, Any]) -> None:
    """Raise `RecipeError` that names what is wrong with a rule, if anything is."""
    name = rule.get("rule")
    if name not in RULES:
        raise RecipeError("rule", name, "one of " + ", ".join(sorted(RULES)))
    if set(rule) - {"rule", "value"}:
        raise RecipeError(f"rule {name}", sorted(set(rule) - {"rule", "value"}), "rule and value")
    kind, value = RULES[name][0], rule.get("value", True)
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not right or (kind is list and not all(isinstance(word, str) for word in value)):
        raise RecipeError(f"rule {name}: value", rule.get("value"), _accepted(kind))
    if name in ("regex", "no_regex"):
        try:
            re.compile(value)
        except re.error as error:
            raise RecipeError(f"rule {name}: value", value, f"a regular expression ({error})") from error
    if name == "json_schema":
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(value)
        except SchemaError as error:
            raise RecipeError(f"rule {name}: value", value, f"a JSON schema ({error.message})") from error


def _accepted(kind: Kind) -> str:
    names = {
        int: "a whole number",
        str: "text",
        bool: "true or false",
        list: "a list of texts",
        dict: "a table",
    }
    return names.get(kind, "a number") if isinstance(kind, type) else "a number"


def follows(text: str, rule: Mapping[str, Any]) -> bool:
    """Tell whether an answer follows a rule."""
    return RULES[rule["rule"]][1](text, rule.get("value", True))


def share_followed(text: str, rules: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of rules that an answer follows; an empty answer follows none."""
    if not text.strip() and not any(rule["rule"] == "empty" for rule in rules):
        return 0.0
    return sum(follows(text, rule) for rule in rules) / len(rules)
