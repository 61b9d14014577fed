"""Rules checked in plain code, and the instructions that are made of them."""

from __future__ import annotations

from typing import Any

import pytest

from align.errors import RecipeError
from align.evaluation import instructions
from align.evaluation.rules import RULES, check_rule, follows, share_followed

FENCED = '```json\n{"a": 1}\n```'
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}

# rule, value, an answer that follows it, one that does not
CASES: list[tuple[str, Any, str, str]] = [
    ("max_sentences", 2, "One. It costs 3.5 euros.", "One. Two. Three."),
    ("min_sentences", 2, "One! Two?", "One, e.g. this"),
    ("exact_sentences", 1, "Just one.", "One. Two."),
    ("max_words", 3, "It's well-known here", "one two three four"),
    ("min_words", 3, "one two three", "one two"),
    ("max_characters", 3, "abc", "abcd"),
    ("min_characters", 3, "abc", "ab"),
    ("max_paragraphs", 1, "a\nb", "a\n\nb"),
    ("min_paragraphs", 2, "a\n \nb", "a\nb"),
    ("max_bullets", 1, "- a", "- a\n- b"),
    ("min_bullets", 2, "1. a\n2) b", "- a"),
    ("exact_bullets", 2, "Here:\n* a\n• b", "- a\n- b\n- c"),
    ("keywords", ["river", "ice cream"], "River and ice cream.", "Rivers and ice cream."),
    ("any_keyword", ["river", "lake"], "a lake", "a sea"),
    ("no_keywords", ["the"], "Then they left.", "The end."),
    ("starts_with", "dear", " Dear all", "Hello dear"),
    ("ends_with", "Thank you.", "So. thank you. \n", "Thank you all."),
    ("equals", "Yes", " yes ", "yes."),
    ("regex", r"^\d+$", "12", "12a"),
    ("no_regex", r"\d", "ab", "a1"),
    ("lower_case", True, "all small, 1", "One"),
    ("upper_case", True, "LOUD 1", "Loud"),
    ("comma", False, "no such mark", "here, it is"),
    ("question_mark", True, "Why?", "Why."),
    ("digits", False, "three", "3"),
    ("json", True, FENCED, "{'a': 1}"),
    ("json_schema", SCHEMA, FENCED, '{"a": "x"}'),
    ("quoted", True, '"So it is."', 'He said "so".'),
    ("title", True, "# On bread\nText", "On bread"),
    ("code_block", True, "See:\n```\nx = 1\n```", "x = 1"),
    ("language", "de", "Der Hund schläft heute lange im Garten.", "The dog sleeps long in the garden today."),
    ("refusal", False, "Here it is.", "I'm sorry, but I can't do that."),
    ("empty", False, "x", " \n"),
    ("max_rep4", 0.1, "one two three four five six", "a b c d a b c d a b c d"),
]


@pytest.mark.parametrize(("name", "value", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_is_followed_or_not(name: str, value: Any, good: str, bad: str) -> None:
    rule = {"rule": name, "value": value}
    check_rule(rule)
    assert follows(good, rule)
    assert not follows(bad, rule)


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(RULES)
    assert len(RULES) >= 25


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"rule": "politeness"}, "max_sentences"),
        ({"rule": "max_words"}, "a whole number"),
        ({"rule": "max_words", "value": True}, "a whole number"),
        ({"rule": "max_words", "value": "3"}, "a whole number"),
        ({"rule": "keywords", "value": "river"}, "a list of texts"),
        ({"rule": "keywords", "value": [1]}, "a list of texts"),
        ({"rule": "regex", "value": "("}, "a regular expression"),
        ({"rule": "json_schema", "value": {"type": "tale"}}, "a JSON schema"),
        ({"rule": "comma", "value": False, "weight": 2}, "rule and value"),
    ],
)
def test_a_wrong_rule_is_named_with_what_is_accepted(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        check_rule(rule)


def test_the_share_of_rules_followed() -> None:
    rules = [{"rule": "comma", "value": False}, {"rule": "max_words", "value": 2}]
    assert share_followed("one two", rules) == 1.0
    assert share_followed("one, two, three", rules) == 0.0
    assert share_followed("one two three", rules) == 0.5
    assert share_followed(" ", rules) == 0.0  # an empty answer breaks none of them, and is no answer


def test_instructions_are_made_by_the_seed_and_can_all_be_checked() -> None:
    made = instructions.generate(200, "a")
    assert made == instructions.generate(200, "a") != instructions.generate(200, "b")
    assert len({one.prompt for one in made}) == 200
    for one in made:
        for rule in one.rules:
            check_rule(rule)
    names = {rule["rule"] for one in made for rule in one.rules}
    assert len(names) >= 12
    one = instructions.Instruction(
        "Do.", [{"rule": "lower_case", "value": True}, {"rule": "comma", "value": False}]
    )
    assert instructions.followed("small, only", one.rules) == [True, False]
    assert instructions.followed("", one.rules) == [False, False]
