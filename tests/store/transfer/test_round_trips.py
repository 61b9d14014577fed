"""Property tests: import of an export gives the same content, and every format says what its rows say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.db.database import Store
from store.errors import Conflict
from store.training_data import demonstrations, likes, pairs
from store.training_data.import_file import import_file
from store.transfer import export_file, formats
from store.transfer.export_file import export
from store.values import Demonstration, Judgement, Message, PreferencePair, to_json
from tests.store.samples import traces

few = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=60, deadline=None)

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
answer = text.map(lambda t: (Message("assistant", t),))
long_answer = st.tuples(answer, text | st.just(" "), answer).map(
    lambda p: (*p[0], Message("user", p[1]), *p[2])
)
# Messages of a prompt may be blank.
blank = st.sampled_from(["", " ", "\n", "\r\n\t", "\u00a0"])
prompt = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant"]), text | blank), min_size=1, max_size=3
).map(lambda parts: tuple(Message(role, said) for role, said in parts))
tags = st.lists(text, max_size=2)


def content(db: Store, noun: str, columns: str = "content_hash") -> list[Any]:
    return db.read().execute(f"select {columns} from {noun} order by all").fetchall()


def two_stores(empty: Path, home: Path) -> tuple[Store, Store]:
    one, two = (Store.open(shutil.copy(empty, home / f"{name}.duckdb")) for name in ("one", "two"))
    return one, two


def written(home: Path, format: str) -> Path:
    return home / "out" / "data" / "train.parquet" if format == "parquet" else home / "out"


@pytest.mark.parametrize("format", export_file.FORMATS["pairs"])
@few
@given(
    data=st.lists(
        st.tuples(prompt, st.one_of(answer, long_answer), st.one_of(answer, long_answer), tags), max_size=6
    )
)
def test_import_of_an_export_of_pairs_gives_the_same_hashes(
    empty: Path, tmp_path_factory: Any, format: str, data: Any
) -> None:
    home = tmp_path_factory.mktemp("trip")
    rows = [
        {"prompt": to_json(p), "chosen": to_json(c), "rejected": to_json(r), "tags": t, "weight": 0.5}
        for p, c, r, t in data
    ]
    one, two = two_stores(empty, home)
    with one, two:
        accepted = pairs.import_rows(one, rows, "test").accepted
        if format == "parquet" and not accepted:
            with pytest.raises(Conflict, match="no pairs match"):
                export(one, home / "out", format=format)
            return
        assert export(one, home / "out", format=format) == accepted
        if accepted:
            as_format = "trl" if format in ("csv", "parquet") else format
            done = import_file(two, written(home, format), format=as_format)
            assert (done.result.accepted, done.broke_off) == (accepted, None)
        kept = "content_hash" if format == "openai" else "content_hash, weight, tags"
        assert content(one, "pairs", kept) == content(two, "pairs", kept)


def test_a_blank_message_comes_back_from_csv(db: Store, tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": " "}], "chosen": "good", "rejected": "bad"}
    assert pairs.import_rows(db, [row], "test").accepted == 1
    export(db, tmp_path / "out", format="csv")
    done = import_file(db, tmp_path / "out")
    assert (done.result.duplicates, done.result.rejected) == (1, ())


@pytest.mark.parametrize("format", export_file.FORMATS["demonstrations"])
@few
@given(data=st.lists(st.tuples(prompt, answer), min_size=1, max_size=6))
def test_import_of_an_export_of_demonstrations_gives_the_same_hashes(
    empty: Path, tmp_path_factory: Any, format: str, data: Any
) -> None:
    home = tmp_path_factory.mktemp("trip")
    one, two = two_stores(empty, home)
    with one, two:
        rows = [{"prompt": to_json(p), "completion": to_json(c)} for p, c in data]
        demonstrations.import_rows(one, rows, "test")
        export(one, home / "out", "demonstrations", format)
        as_format = "openai" if format == "openai" else "trl"
        import_file(two, written(home, format), "demonstrations", format=as_format)
        assert content(one, "demonstrations") == content(two, "demonstrations")


@pytest.mark.parametrize("format", export_file.FORMATS["likes"])
@few
@given(data=st.lists(st.tuples(prompt, answer, st.booleans()), min_size=1, max_size=6))
def test_import_of_an_export_of_likes_gives_the_same_hashes(
    empty: Path, tmp_path_factory: Any, format: str, data: Any
) -> None:
    home = tmp_path_factory.mktemp("trip")
    one, two = two_stores(empty, home)
    with one, two:
        rows = [{"prompt": to_json(p), "completion": to_json(c), "label": liked} for p, c, liked in data]
        likes.import_rows(one, rows, "test")
        export(one, home / "out", "likes", format)
        import_file(two, written(home, format), "likes")
        assert content(one, "likes", "content_hash, liked") == content(two, "likes", "content_hash, liked")


# How others would write a question with a better and a worse answer, by format.
said = text.map(str.strip)


def chat(*texts: str) -> list[dict[str, str]]:
    return to_json(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))


def history(q: str, good: str, bad: str) -> dict[str, Any]:
    message = {"1": ("user", None, q), "2": ("assistant", "1", bad), "3": ("assistant", "1", good)}
    return {key: {"role": role, "parentId": up, "content": what} for key, (role, up, what) in message.items()}


PAIRS: dict[str, Any] = {
    "trl": lambda q, good, bad: {"chosen": chat(q, good), "rejected": chat(q, bad)},
    "hh-rlhf": lambda q, good, bad: {
        side: f"\n\nHuman: {q}\n\nAssistant: {a}" for side, a in (("chosen", good), ("rejected", bad))
    },
    "ultrafeedback": lambda q, good, bad: {
        "instruction": q,
        "completions": [{"response": bad, "overall_score": 2}, {"response": good, "overall_score": 7.5}],
    },
    "lmarena": lambda q, good, bad: {
        "winner": "model_b", "conversation_a": chat(q, bad), "conversation_b": chat(q, good),
    },
    "openwebui": lambda q, good, bad: {
        "data": {"rating": -1}, "meta": {"message_id": "2"},
        "snapshot": {"chat": {"history": {"messages": history(q, good, bad)}}},
    },
    "argilla": lambda q, good, bad: {
        "fields": {"prompt": q, "response1": good, "response2": bad},
        "responses": {"preference": [{"value": "response1"}]},
    },
    "openai": lambda q, good, bad: {
        "input": {"messages": chat(q)}, "preferred_output": chat(q, good)[1:], "non_preferred_output": chat(q, bad)[1:],
    },
    "helpsteer": lambda q, good, bad: {
        "prompt": q, "response_1": good, "response_2": bad, "preference_strength": -3,
    },
    "pku-saferlhf": lambda q, good, bad: {
        "prompt": q, "response_0": good, "response_1": bad, "better_response_id": 0, "safer_response_id": 0,
    },
    "nectar": lambda q, good, bad: {
        "prompt": f"\n\nHuman: {q}\n\nAssistant: ", "answers": [{"answer": bad, "rank": 7}, {"answer": good, "rank": 1}],
    },
    "distilabel": lambda q, good, bad: {"instruction": q, "generations": [bad, good], "ratings": [1, 2]},
    "ms-swift": lambda q, good, bad: {"messages": chat(q, good), "rejected_response": bad},
}  # fmt: skip
DEMONSTRATIONS: dict[str, Any] = {
    "trl": lambda q, a: {"prompt": q, "completion": a},
    "sharegpt": lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
    "openai": lambda q, a: {"messages": chat(q, a)},
    "alpaca": lambda q, a: {"instruction": q, "output": a},
    "capybara": lambda q, a: {"conversation": [{"input": q, "output": a}]},
    "langfuse": lambda q, a: traces(q, a)["langfuse"],
    "langsmith": lambda q, a: traces(q, a)["langsmith"],
    "otel": lambda q, a: traces(q, a)["otel"],
}


@pytest.mark.parametrize("format", formats.FORMATS["pairs"])
@many
@given(q=said, good=said, bad=said)
def test_every_format_of_pairs_says_what_its_row_says(format: str, q: str, good: str, bad: str) -> None:
    if good == bad or any(word in part for part in (q, good, bad) for word in ("Human:", "Assistant:")):
        return
    row = json.loads(json.dumps(PAIRS[format](q, good, bad)))
    assert formats.detect("pairs", row) == format
    read = PreferencePair.from_json(formats.FORMATS["pairs"][format](row))
    expected = (Message("user", q),), (Message("assistant", good),), (Message("assistant", bad),)
    assert (read.prompt, read.chosen, read.rejected) == expected


@pytest.mark.parametrize("format", formats.FORMATS["demonstrations"])
@many
@given(q=said, a=said)
def test_every_format_of_demonstrations_says_what_its_row_says(format: str, q: str, a: str) -> None:
    row = json.loads(json.dumps(DEMONSTRATIONS[format](q, a)))
    assert formats.detect("demonstrations", row) == format
    made: Any = formats.FORMATS["demonstrations"][format](row)
    read = Demonstration.from_json(
        made[0] if isinstance(made, list) else made
    )  # one file of spans, many answers
    assert (read.prompt, read.completion) == ((Message("user", q),), (Message("assistant", a),))


@many
@given(q=said, good=said, bad=said, liked=st.booleans())
def test_every_format_of_likes_says_what_its_row_says(q: str, good: str, bad: str, liked: bool) -> None:
    rated = PAIRS["openwebui"](q, good, bad) | {"data": {"rating": 1 if liked else -1}}
    for format, row in (("kto", {"prompt": q, "completion": bad, "label": liked}), ("openwebui", rated)):
        assert formats.detect("likes", row) == format
        read = Judgement.from_json(formats.FORMATS["likes"][format](row))
        assert (read.prompt, read.completion, read.label) == (
            (Message("user", q),), (Message("assistant", bad),), liked,
        )  # fmt: skip
