"""Which answers make a pair: by rules and by a judge, whole answers alone, clearly different ones alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from align.errors import RecipeError
from align.evaluation.judging.judge import JudgeApi, Voted, measure_by_judge
from align.evaluation.judging.judge_measures import VOTED, calibration
from align.evaluation.suite_file import Judge
from align.pair_making.by_judge import Judged, choose_by_judge, compare_all, from_json, requests_of
from align.pair_making.choice import Answer, Chosen, choose, similarity, usable
from align.pair_making.preference import CUT, Preference, is_better, read_preference

SHORTER = Preference(prefer="shorter")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def of_length(n: int) -> str:
    return " ".join(f"{word}{n}" for word in WORDS[:n])


def by_rules(preference: Preference, texts: list[str], against: Any = "worst") -> Chosen | None:
    scores = [preference.score(text) for text in texts]
    return choose(texts, scores, lambda i, j: is_better(scores[i], scores[j]), against)


def test_the_best_answer_is_paired_with_the_worst() -> None:
    texts = [of_length(n) for n in (5, 12, 2, 8)]
    assert by_rules(SHORTER, texts) == Chosen(2, 1, (0, 3))


def test_against_low_takes_the_answer_above_the_worst() -> None:
    texts = [of_length(n) for n in (5, 12, 2, 8)]
    assert by_rules(SHORTER, texts, "low") == Chosen(2, 3, (0, 2))
    assert by_rules(SHORTER, texts[:2], "low") == Chosen(0, 1, (0, 1))


def test_rules_come_before_length() -> None:
    preference = Preference(rules=({"rule": "comma", "value": False},), prefer="shorter")
    assert by_rules(preference, ["Well, no.", of_length(12)]) == Chosen(1, 0, (0, 1))


def test_answers_of_about_the_same_length_make_no_pair() -> None:
    assert by_rules(SHORTER, [of_length(11), of_length(12)]) is None
    assert by_rules(SHORTER, [of_length(10), of_length(12)]) is not None


def test_answers_that_say_the_same_make_no_pair() -> None:
    text = " ".join(f"word{n}" for n in range(60))
    rules = Preference(rules=({"rule": "ends_with", "value": "!"},))
    assert by_rules(rules, [text, f"{text}!"]) is None
    assert similarity("the cat sat", "the cat sat") == 1.0
    assert similarity("the cat", "a dog") == 0.0


def test_equal_scores_and_single_answers_make_no_pair() -> None:
    rules = Preference(rules=({"rule": "comma", "value": False},))
    assert by_rules(rules, ["one two", "three four five six"]) is None
    assert by_rules(rules, ["one two"]) is None


def test_cut_blank_and_repeated_answers_are_not_used() -> None:
    answers = [
        Answer("a"),
        Answer("b", "length"),
        Answer(" \n"),
        Answer("a "),
        Answer("c"),
        Answer("d", None),
    ]
    assert usable(answers) == [0, 4]
    assert usable(answers, keep_cut=True) == [0, 1, 4, 5]


def test_a_cut_answer_is_worse_than_any_whole_one() -> None:
    preference = Preference(prefer="shorter")
    assert is_better(preference.score("word " * 500), CUT)
    assert not is_better(CUT, CUT)


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({}, "rules"),
        ({"prefer": "funny"}, "rules.prefer"),
        ({"rules": "shorter"}, "rules.rules"),
        ({"rules": [{"rule": "max_words"}]}, "rules: rule max_words: value"),
        ({"rules": [{"rule": "nice", "value": 1}]}, "rules: rule"),
        ({"prefer": "shorter", "weight": 2}, "rules.weight"),
    ],
)
def test_a_bad_rules_file_is_refused_by_field(table: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read_preference(table)
    assert refused.value.field == field
    assert refused.value.accepted


def test_the_hash_names_what_the_rules_say() -> None:
    assert read_preference({"prefer": "shorter"}).hash == SHORTER.hash
    assert SHORTER.hash != Preference(prefer="longer").hash
    assert len(SHORTER.hash) == 12


Verdict = Callable[[str, str], str]


def judge(verdict: Verdict) -> JudgeApi:
    """A judge that reads the two answers of its prompt and says what `verdict` says."""

    def answer(request: httpx.Request) -> httpx.Response:
        text = json.loads(request.content)["messages"][0]["content"]
        said = verdict(*text.split("|")[1:3])
        content = json.dumps({"verdict": said}) if said != "broken" else "I like the first."
        return httpx.Response(200, json={"choices": [{"message": {"content": content}}]})

    made = JudgeApi(Judge(kind="judge", url="http://judge", model="j"), transport=httpx.MockTransport(answer))
    made.prompt = "{request}|{a}|{b}|"
    return made


def shorter_of(a: str, b: str) -> str:
    return "tie" if len(a) == len(b) else "A" if len(a) < len(b) else "B"


def compared(verdict: Verdict, texts: list[str]) -> Judged:
    async def run() -> Judged:
        async with judge(verdict) as api:
            return await compare_all(api, [{"role": "user", "content": "Hm?"}], texts)

    return asyncio.run(run())


def test_a_judge_compares_every_two_answers_in_both_orders() -> None:
    judged = compared(shorter_of, ["four", "seven77", "to", "twelve121212"])
    assert judged.scores() == [2.0, 1.0, 3.0, 0.0]
    assert choose_by_judge(["w", "x", "y", "z"], judged, "worst") == Chosen(2, 3, (0, 3))
    assert choose_by_judge(["w", "x", "y", "z"], judged, "low") == Chosen(2, 1, (0, 2))
    assert from_json(json.loads(json.dumps(judged.to_json()))) == judged
    assert requests_of(4) == 12


def test_a_judge_that_follows_the_order_makes_no_pair() -> None:
    assert choose_by_judge(["x", "y"], compared(lambda a, b: "A", ["x", "y"]), "worst") is None


def test_invalid_verdicts_make_no_pair_and_are_counted() -> None:
    judged = compared(lambda a, b: "broken", ["x", "y", "z"])
    assert judged.invalid == 3
    assert choose_by_judge(["x", "y", "z"], judged, "worst") is None


def calibrated_on(verdict: Verdict, n: int) -> str | None:
    voted = [
        Voted(f"c-{k}", f"h-{k}", [{"role": "user", "content": "Hm?"}], "aa", "bbbb", "a")
        if k % 2
        else Voted(f"c-{k}", f"h-{k}", [{"role": "user", "content": "Hm?"}], "aaaa", "bb", "b")
        for k in range(n)
    ]

    async def run() -> str | None:
        async with judge(verdict) as api:
            return calibration(await measure_by_judge(api, [], {}, voted)).why

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("verdict", "n", "why"),
    [
        (shorter_of, VOTED, None),
        (shorter_of, VOTED - 1, "fewer than 50"),
        (shorter_of, 0, "fewer than 50"),
        (lambda a, b: "A", VOTED, "follow the order"),
        (lambda a, b: "tie", VOTED, "beyond chance"),
        (lambda a, b: {"A": "B", "B": "A"}[shorter_of(a, b)], VOTED, "beyond chance"),
        (lambda a, b: "broken", VOTED, "invalid"),
    ],
)
def test_a_judge_is_calibrated_only_by_its_agreement_with_people(
    verdict: Verdict, n: int, why: str | None
) -> None:
    found = calibrated_on(verdict, n)
    assert found is None if why is None else why in (found or "")
