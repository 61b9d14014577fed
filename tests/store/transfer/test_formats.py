"""What becomes of rows that are not as their format has it: they are refused with a reason, and nothing else happens."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.db.database import Store
from store.errors import Invalid
from store.training_data import pairs
from store.training_data.import_file import import_file
from store.training_data.import_result import RejectedRow
from store.transfer import formats
from store.values import Demonstration, Judgement, PreferencePair
from tests.store.samples import ARGILLA, DEMONSTRATIONS, OPENWEBUI, PAIRS, TRL

READ: dict[str, Any] = {
    "pairs": PreferencePair.from_json,
    "demonstrations": Demonstration.from_json,
    "likes": Judgement.from_json,
}
GOOD: dict[str, list[dict[str, Any]]] = {
    "pairs": [row for _, row in PAIRS.values()],
    "demonstrations": list(DEMONSTRATIONS.values()),
    "likes": [{"prompt": "Q", "completion": "good", "label": True}, OPENWEBUI],
}


def pair(format: str, row: dict[str, Any]) -> PreferencePair:
    return PreferencePair.from_json(formats.FORMATS["pairs"][format](row))


# ---- whatever JSON holds

words = sorted(
    {key for rows in GOOD.values() for row in rows for key in row}
    | {"role", "content", "value", "rank", "from"}
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([10**400, float("nan"), float("inf"), 1.5, "", "1", "user", "gpt", "good", "\ud800"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(words) | st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) within a value."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def judged(noun: str, format: str, row: Any) -> None:
    try:
        made: Any = formats.FORMATS[noun][format](row)
        values = [READ[noun](part) for part in (made if isinstance(made, list) else [made])]
    except Invalid:
        return
    assert values
    assert all(len(value.content_hash) == 64 for value in values)


@pytest.mark.parametrize(
    ("noun", "format"), [(noun, name) for noun, known in formats.FORMATS.items() for name in known]
)
@settings(max_examples=40, deadline=None)
@given(row=st.dictionaries(st.sampled_from(words) | st.text(max_size=3), anything, max_size=6))
def test_any_object_is_a_value_or_refused(noun: str, format: str, row: dict[str, Any]) -> None:
    judged(noun, format, row)
    with suppress(Invalid):
        assert formats.detect(noun, row) in formats.FORMATS[noun]


@pytest.mark.parametrize(
    ("noun", "place"), [(noun, n) for noun, rows in GOOD.items() for n in range(len(rows))]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_good_row_with_something_else_in_a_place_is_a_value_or_refused(
    noun: str, place: int, data: Any
) -> None:
    row = copy.deepcopy(GOOD[noun][place])
    format = formats.detect(noun, row)
    for _ in range(data.draw(st.integers(1, 2))):
        if found := list(places(row)):
            inside, key = data.draw(st.sampled_from(found))
            if data.draw(st.booleans()):
                inside[key] = data.draw(anything)
            else:
                del inside[key]
    judged(noun, format, row)


def test_an_error_of_our_own_costs_one_row(db: Store, caplog: pytest.LogCaptureFixture) -> None:
    def convert(row: Any) -> Any:
        return row if row["chosen"] != "x" else row["nothing"]

    refused: list[tuple[RejectedRow, Any]] = []
    rows = [TRL, {**TRL, "chosen": "x"}, {**TRL, "prompt": "Q2"}]
    done = pairs.import_rows(
        db, rows, "test", convert=convert, on_rejected=lambda *given: refused.append(given)
    )
    assert (done.accepted, done.rejected_count) == (2, 1)
    assert (refused[0][0].row, refused[0][1]) == (2, rows[1])
    assert "KeyError" in refused[0][0].why
    assert "row 2" in caplog.text


# ---- one by one


def test_the_prompt_of_two_texts_is_what_trl_takes() -> None:
    # What extract_prompt of TRL 1.16 answers: the space goes with the answers.
    trl = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    made = pair("trl", {"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert made == PreferencePair.from_json(trl)
    assert made.content_hash == PreferencePair.from_json(trl).content_hash


def test_the_prompt_of_two_texts_ends_with_a_word() -> None:
    made = pair("trl", {"chosen": "The sun is in the sky.", "rejected": "The sun is in the sea."})
    assert (made.prompt[0].content, made.chosen[0].content, made.rejected[0].content) == (
        "The sun is in the", " sky.", " sea.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "rejected", "field"),
    [
        ("Yes.", "No.", "prompt"),
        ("Yes", "Yesterday", "prompt"),
        (" a", " b", "prompt"),
        ("The sky is", "The sky is green", "chosen"),
        ("The sky is green", "The sky is", "rejected"),
        ("The sky is ", "The sky is green", "chosen"),
        ("The same", "The same", "chosen"),
    ],
)
def test_two_texts_that_make_no_pair_are_refused(chosen: str, rejected: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        pair("trl", {"chosen": chosen, "rejected": rejected})
    assert refused.value.field == field


def argilla(fields: dict[str, str] | None = None, **questions: Any) -> dict[str, Any]:
    answers = {
        name: [{"value": value, "user_id": "u"} for value in values] for name, values in questions.items()
    }
    return {**ARGILLA, "fields": fields or ARGILLA["fields"], "responses": answers}


@pytest.mark.parametrize(
    ("answers", "weight"),
    [
        ({"preference": ["response2"], "helpfulness": [1], "honesty": [1]}, 1),
        ({"which": ["response2", "response2", "response1"], "quality": [1, 2, 1]}, 1 / 3),
        ({"preference": [2], "length": [1]}, 1),
        ({"best": ["B"], "comment": ["response1 is too long"]}, 1),
        ({"ranking": [["response2", "response1"]]}, 1),
        ({"preference": ["response2"], "safer": ["response1"]}, 1),
        (
            {
                "order": [[{"value": "response1", "rank": 2}, {"value": "response2", "rank": 1}]],
                "rating": [1],
            },
            1,
        ),
    ],
)
def test_only_the_question_that_prefers_counts(answers: dict[str, Any], weight: float) -> None:
    made = pair("argilla", argilla(**answers))
    assert (made.chosen[0].content, made.weight) == ("good", pytest.approx(weight))


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"helpfulness": [1], "honesty": [2]}, "ratings of single responses"),
        ({"helpfulness": [1]}, "ratings of single responses"),
        ({"response1_rating": [5], "response2_rating": [1]}, "ratings of single responses"),
        ({"safer": ["response1"], "kinder": ["response2"]}, "one question that prefers"),
        ({"preference": ["response1"], "best": ["response2"]}, "one question that prefers"),
        ({"order": [[{"value": "response1", "rank": 1}, {"value": "response2", "rank": 1}]]}, "majority"),
        ({"preference": [True]}, "one question"),
        ({"preference": []}, "one question"),
    ],
)
def test_answers_that_leave_it_open_are_refused(answers: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        pair("argilla", argilla(**answers))
    assert refused.value.field.startswith("responses")


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "Q", "prompt": "P", "response1": "a", "response2": "b"},
        {"response1": "a", "response2": "b"},
        {"prompt": "Q", "response1": "a", "response2": "b", "response3": "c"},
    ],
)
def test_fields_that_leave_it_open_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="one prompt field and two response fields"):
        pair("argilla", argilla(fields, preference=["response1"]))


def test_a_number_means_a_response_only_where_their_names_are_numbered() -> None:
    fields = {"prompt": "Q", "completion_llama": "a", "completion_gpt": "b"}
    with pytest.raises(Invalid, match="one question"):
        pair("argilla", argilla(fields, preference=[1]))


@pytest.mark.parametrize("noun", ["pairs", "likes"])
@pytest.mark.parametrize("circle", [{"1": "1"}, {"1": "2"}, {"1": "3"}])
def test_messages_that_go_in_a_circle_are_refused(noun: str, circle: dict[str, str]) -> None:
    row = copy.deepcopy(OPENWEBUI)
    messages = row["snapshot"]["chat"]["chat"]["history"]["messages"]
    for key, parent in circle.items():
        messages[key]["parentId"] = parent
    messages["2"]["parentId"] = "1"
    if circle["1"] == "2":  # through the sibling, so that the rated answer is not in the circle
        messages["3"]["parentId"] = "1"
    with pytest.raises(Invalid, match="in a circle"):
        READ[noun](formats.FORMATS[noun]["openwebui"](row))


def test_a_null_among_the_messages_matters_only_on_the_way_to_the_answer() -> None:
    row = copy.deepcopy(OPENWEBUI)
    messages = row["snapshot"]["chat"]["chat"]["history"]["messages"]
    messages["9"] = None
    assert pair("openwebui", row).chosen[0].content == "good"
    messages["1"] = None
    with pytest.raises(Invalid, match=r"messages\.1: None"):
        pair("openwebui", row)


def test_scores_that_contradict_the_columns_are_refused() -> None:
    row = PAIRS["ultrafeedback binarised"][1]
    with pytest.raises(Invalid, match="contradicts itself"):
        pair("ultrafeedback", {**row, "score_chosen": 2.0})
    with pytest.raises(Invalid, match="finite"):
        pair("ultrafeedback", {**row, "score_chosen": 10**400})
    assert (
        pair("ultrafeedback", {**row, "score_chosen": "9", "score_rejected": "10e-1"}).chosen[0].content
        == "good"
    )


def test_texts_of_lmarena_that_look_like_json_are_texts() -> None:
    row = {**PAIRS["lmarena 55k"][1], "prompt": "5", "response_a": "true", "response_b": '["6"'}
    made = pair("lmarena", row)
    assert (made.prompt[0].content, made.chosen[0].content, made.rejected[0].content) == ("5", "true", '["6"')


# ---- through a file


def test_format_is_detected_from_the_first_row_that_shows_it(db: Store, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,chosen,rejected\nh1,y,n,EXTRA\nh2,y,n\n")
    done = import_file(db, path)
    assert (done.format, done.result.accepted, [r.row for r in done.result.rejected]) == ("trl", 1, [1])
    path.write_text(
        '[null, {"comment": "header"}, {"conversations": []}, {"prompt": "Q", "completion": "A"}]'
    )
    done = import_file(db, path, "demonstrations", format="trl")
    assert (done.result.accepted, done.result.rejected_count) == (1, 3)
    path.write_text('7\n{"comment": "header"}\n{"prompt": "Q3", "completion": "A"}\n')
    done = import_file(db, path, "demonstrations")
    assert (done.format, done.result.accepted, done.result.rejected_count) == ("trl", 1, 2)
    path.write_text('7\n{"comment": "header"}\n')
    with pytest.raises(Invalid, match="comment"):
        import_file(db, path)
    path.write_text("[null]")
    with pytest.raises(Invalid, match="None is not accepted"):
        import_file(db, path)


def test_half_a_character_is_refused_in_every_container(db: Store, tmp_path: Path) -> None:
    row = '{"prompt": "s \\ud800", "chosen": "a", "rejected": "b"}'
    for text in (f"{row}\n{row}\n", f"[{row}, {row}]"):
        (tmp_path / "rows").write_text(text)
        done = import_file(db, tmp_path / "rows", dry_run=True)
        assert (done.result.accepted, done.result.rejected_count) == (0, 2)
        assert "Unicode" in done.result.rejected[0].why


def test_the_text_of_a_bad_row_goes_to_the_rejects_file(db: Store, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text('[{bad}, {"prompt": "Q", "completion": "A"}]')
    done = import_file(db, tmp_path / "rows", "demonstrations", rejects=tmp_path / "rejects")
    assert (done.result.accepted, [refused.row for refused in done.result.rejected]) == (1, [1])
    assert json.loads((tmp_path / "rejects").read_text())["data"] == "{bad}"
