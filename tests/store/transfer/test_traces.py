"""Traces of Langfuse, LangSmith and OpenTelemetry as demonstrations and likes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from store.db.database import Store
from store.errors import Invalid
from store.training_data import demonstrations, likes
from store.training_data.import_file import FileImport, import_file
from store.transfer import formats

Row = dict[str, Any]
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
SAID = {"role": "assistant", "content": "Hello."}


def taken(db: Store, path: Path, noun: str) -> tuple[FileImport, list[tuple[list[str], str, bool | None]]]:
    done = import_file(db, path, noun)
    if noun == "likes":
        rows = [(row["prompt"], row["completion"], row["label"]) for row in likes.list_recent(db)]
    else:
        found = [record.demonstration for record in demonstrations.list_page(db)]
        rows = [(value.prompt, value.completion, None) for value in found]
    return done, [([_text(m) for m in prompt], _text(answer[-1]), label) for prompt, answer, label in rows][
        ::-1
    ]


def _text(message: Any) -> str:
    role, content = (
        (message["role"], message["content"])
        if isinstance(message, dict)
        else (message.role, message.content)
    )
    return f"{role}: {content}"


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def trace(value: object = 1, asked: object = ASKED, said: object = SAID, **more: Any) -> Row:
    scores = [] if value is None else [{"name": "user-feedback", "value": value, "dataType": "NUMERIC"}]
    return {
        "id": "t",
        "name": "chat",
        "input": asked,
        "output": said,
        "scores": scores,
        "metadata": {},
        **more,
    }


def test_traces_of_langfuse(db: Store, tmp_path: Path) -> None:
    rows = [
        trace(1),
        trace(0, said="Go away.", asked="Hello?"),
        trace(0.7, said="Maybe."),
        trace(None, said="Unrated."),
        trace("positive", asked={"messages": ASKED}, said={"choices": [{"message": {**SAID, "content": "Chosen."}}]}),
        trace(1, said="both", scores=[{"name": "a", "value": 1}, {"name": "b", "value": 0}]),
        trace(1, asked=None, said=None, observations=[
            {"type": "SPAN", "input": "x", "output": "y"},
            {"type": "GENERATION", "input": ASKED, "output": {"role": "assistant", "content": "Inner."}},
        ]),
        trace(1, said="tool", type="TOOL"),
    ]  # fmt: skip
    path = lines(tmp_path / "traces.jsonl", rows)
    done, found = taken(db, path, "likes")
    assert done.format == "langfuse"
    assert [(answer, label) for _, answer, label in found] == [
        ("assistant: Hello.", True),
        ("assistant: Go away.", False),
        ("assistant: Chosen.", True),
        ("assistant: Inner.", True),
    ]
    assert found[0][0] == ["system: Be brief.", "user: Hi"]
    assert [(row.row, row.why.split(":")[0]) for row in done.result.rejected] == [
        (3, "scores"),
        (4, "scores"),
        (6, "scores"),
        (8, "type"),
    ]
    done, found = taken(db, path, "demonstrations")
    assert [answer for _, answer, _ in found] == [
        "assistant: Hello.", "assistant: Maybe.", "assistant: Unrated.", "assistant: Chosen.", "assistant: Inner.",
    ]  # fmt: skip


def test_observations_of_langfuse_as_csv(db: Store, tmp_path: Path) -> None:
    path = tmp_path / "observations.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "traceId", "type", "input", "output", "scores"])
        said, scores = json.dumps(SAID), json.dumps({"thumb": [-1]})
        table.writerow(["o", "t", "GENERATION", json.dumps(ASKED), said, scores])
    done, found = taken(db, path, "likes")
    assert (done.format, done.container) == ("langfuse", "csv")
    assert found == [(["system: Be brief.", "user: Hi"], "assistant: Hello.", False)]


def langchain(kind: str, text: str) -> Row:
    return {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", f"{kind}Message"],
        "kwargs": {"content": text},
    }


def test_runs_of_langsmith(db: Store, tmp_path: Path) -> None:
    asked = {"messages": [[langchain("System", "Be brief."), langchain("Human", "Hi")]]}
    said = {"generations": [[{"text": "Hello.", "message": langchain("AI", "Hello.")}]]}
    whole = {"messages": [*ASKED, {**SAID, "content": "Whole."}]}
    rows = [
        {
            "run_type": "llm",
            "inputs": asked,
            "outputs": said,
            "feedback_stats": {"thumb": {"n": 1, "avg": 1.0}},
        },
        {
            "run_type": "chain",
            "inputs": {"messages": ASKED},
            "outputs": whole,
            "feedback": [{"key": "ok", "score": 0}],
        },
        {
            "run_type": "chain",
            "inputs": {"question": "Hi"},
            "outputs": {"answer": "Plain."},
            "feedback_stats": None,
        },
        {"run_type": "llm", "inputs": asked, "outputs": said, "error": "timed out"},
        {"run_type": "tool", "inputs": {"input": "x"}, "outputs": {"output": "y"}},
    ]
    path = lines(tmp_path / "runs.jsonl", rows)
    done, found = taken(db, path, "likes")
    assert done.format == "langsmith"
    prompt = ["system: Be brief.", "user: Hi"]
    assert found == [(prompt, "assistant: Hello.", True), (prompt, "assistant: Whole.", False)]
    assert [row.row for row in done.result.rejected] == [3, 4, 5]
    _, found = taken(db, path, "demonstrations")
    assert [answer for _, answer, _ in found] == ["assistant: Hello.", "assistant: Plain."]


def attributes(**given: Any) -> list[Row]:
    return [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in given.items()]


def otlp(*spans: Row) -> Row:
    scope = {"name": "opentelemetry.instrumentation.openai"}
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def parts(role: str, text: str) -> Row:
    return {"role": role, "parts": [{"type": "text", "content": text}], "finish_reason": "stop"}


def test_genai_spans_of_opentelemetry(db: Store, tmp_path: Path) -> None:
    def score(value: Row) -> Row:
        given = [
            *attributes(gen_ai__evaluation__name="relevance"),
            {"key": "gen_ai.evaluation.score.value", "value": value},
        ]
        return {"name": "gen_ai.evaluation.result", "attributes": given}

    current = {
        "name": "chat assistant",
        "attributes": attributes(
            gen_ai__operation__name="chat",
            gen_ai__system_instructions=json.dumps([{"type": "text", "content": "Be brief."}]),
            gen_ai__input__messages=json.dumps([parts("user", "Hi")]),
            gen_ai__output__messages=json.dumps([parts("assistant", "Hello.")]),
        ),
        "events": [score({"intValue": "1"})],
    }
    events = {
        "name": "chat assistant",
        "attributes": attributes(gen_ai__operation__name="chat"),
        "events": [
            {"name": "gen_ai.user.message", "attributes": attributes(content="Hey")},
            {
                "name": "gen_ai.choice",
                "attributes": attributes(message=json.dumps({**SAID, "content": "Yes?"})),
            },
            score({"doubleValue": 0.0}),
        ],
    }
    numbered = {
        "attributes": attributes(
            gen_ai__prompt__0__role="user",
            gen_ai__prompt__0__content="Ho",
            gen_ai__completion__0__role="assistant",
            gen_ai__completion__0__content="Ho ho.",
        )
    }
    other = {"name": "GET /", "attributes": attributes(http__method="GET")}
    path = lines(tmp_path / "spans.jsonl", [otlp(other, current, events), otlp(numbered), otlp(other)])
    done, found = taken(db, path, "likes")
    assert done.format == "otel"
    assert found == [
        (["system: Be brief.", "user: Hi"], "assistant: Hello.", True),
        (["user: Hey"], "assistant: Yes?", False),
    ]
    assert [row.row for row in done.result.rejected] == [2, 3]
    assert "gen_ai.input.messages" in done.result.rejected[1].why
    _, found = taken(db, path, "demonstrations")
    assert [answer for _, answer, _ in found] == ["assistant: Hello.", "assistant: Ho ho."]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (
            trace(1, asked=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            "input[0].content[0]",
        ),
        (trace(1, said=[{"role": "user", "content": "no answer"}]), "output"),
        (trace(1, said=None), "output"),
        (trace(1, asked={"a": "x", "b": "y"}), "input"),
        ({"inputs": {"question": "q"}, "outputs": {"answer": "a"}, "run_type": "retriever"}, "run_type"),
        ({"resourceSpans": [{"scopeSpans": 1}]}, "resourceSpans[0].scopeSpans"),
    ],
)
def test_traces_that_cannot_be_read_name_the_field(row: Row, field: str) -> None:
    read = formats.FORMATS["likes"][formats.detect("likes", row)]
    with pytest.raises(Invalid) as caught:
        read(row)
    assert caught.value.field == field


def test_rows_of_alpaca_and_kto_stay_what_they_are() -> None:
    assert formats.detect("demonstrations", {"instruction": "a", "input": "b", "output": "c"}) == "alpaca"
    assert formats.detect("likes", {"input": "a", "output": "b", "label": True, "scores": {}}) == "kto"
