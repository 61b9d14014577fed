"""Traces of other platforms as conversations and verdicts: Langfuse, LangSmith, OpenTelemetry's GenAI spans.

A trace is what a model was asked, what it answered, and scores. Every answer makes a demonstration unless its scores
reject it; one whose scores say yes or no makes a like. Other numbers say neither, so they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from store import import_notes
from store.db.validation import a_list, an_object
from store.errors import Invalid
from store.transfer import json_rows

Row = Mapping[str, Any]
Messages = list[dict[str, Any]]
Scores = list[tuple[str, object]]

LANGFUSE = ("traceId", "trace_id", "observations", "scores", "parentObservationId", "parent_observation_id")
"""Columns that Langfuse's exports have beside `input` and `output`; one suffices."""
_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "AIMessageChunk": "assistant"}
_KEPT = ("content", "tool_calls", "tool_call_id")
_TEXTS = ("content", "text", "input", "question", "query", "prompt", "output", "answer", "response", "result")
_GOOD = (True, 1, "1", "true", "yes", "up", "positive", "good", "like", "thumbs_up", "pass", "correct")
_BAD = (
    False,
    0,
    -1,
    "0",
    "-1",
    "false",
    "no",
    "down",
    "negative",
    "bad",
    "dislike",
    "thumbs_down",
    "fail",
    "incorrect",
)
_ASKS = ("GENERATION", "AGENT", "CHAIN")


class Trace:
    """One answer: the messages before it, its own, and its scores by name."""

    def __init__(self, asked: object, answered: object, where: tuple[str, str], scores: Scores) -> None:
        self.prompt = messages_of(asked, where[0], "user")
        said = messages_of(answered, where[1], "assistant")
        if len(said) > len(self.prompt) and said[: len(self.prompt)] == self.prompt:
            said = said[len(self.prompt) :]  # some frameworks return the whole conversation
        if not said or said[-1]["role"] != "assistant":
            raise Invalid(where[1], answered, "an answer of the assistant")
        self.answer, self.scores = said, scores

    def liked(self) -> bool | None:
        """Return what the scores say that say yes or no; None where none does. Raises `Invalid` where they disagree."""
        found = {name: verdict for name, value in self.scores if (verdict := _verdict(value)) is not None}
        if len(set(found.values())) > 1:
            raise Invalid("scores", found, "scores that agree, or one that says yes or no")
        return next(iter(found.values()), None)

    def demonstration(self) -> Row:
        """Return the row of SFT. Raises `Invalid` for an answer that its scores reject."""
        if self.liked() is False:
            raise Invalid(
                "scores", dict(self.scores), "an answer that was not rejected (import it as a like)"
            )
        return {"prompt": self.prompt, "completion": self.answer}

    def like(self) -> Row:
        """Return the row of KTO. Raises `Invalid` without a verdict."""
        verdict = self.liked()
        if verdict is None:
            accepted = "a score that says yes or no: true, false, 1, 0, -1, or such a word"
            raise Invalid("scores", dict(self.scores) or "none", accepted)
        return {"prompt": self.prompt, "completion": self.answer, "label": verdict}


def langfuse(row: Row) -> Trace:
    """Langfuse: a trace or an observation with `input`, `output` and `scores`, as JSON or as texts of it."""
    kind = row.get("type")
    if kind not in (None, "", *_ASKS):
        raise Invalid("type", kind, f"one of {', '.join(_ASKS)}, or none (a trace)")
    asked, answered = row.get("input"), row.get("output")
    if not (asked and answered) and (inner := _decoded(row.get("observations"))):
        whole = [_decoded(item) for item in a_list("observations", inner)]
        found = [o for o in whole if isinstance(o, Mapping) and o.get("type") == _ASKS[0] and o.get("output")]
        if found:
            import_notes.rule("last_generation")
            asked, answered = found[-1].get("input"), found[-1].get("output")
    return Trace(asked, answered, ("input", "output"), _scores(row.get("scores"), "scores"))


def langfuse_demonstration(row: Row) -> Row:
    """Return a demonstration. Raises `Invalid`."""
    return langfuse(row).demonstration()


def langfuse_like(row: Row) -> Row:
    """Return a like. Raises `Invalid`."""
    return langfuse(row).like()


def langsmith_demonstration(row: Row) -> Row:
    """Return a demonstration. Raises `Invalid`."""
    return langsmith(row).demonstration()


def langsmith_like(row: Row) -> Row:
    """Return a like. Raises `Invalid`."""
    return langsmith(row).like()


def langsmith(row: Row) -> Trace:
    """LangSmith: a run with `inputs`, `outputs` and `feedback_stats` or `feedback`."""
    kind = row.get("run_type")
    if kind not in (None, "", "llm", "chain"):
        raise Invalid("run_type", kind, "llm or chain")
    if row.get("error"):
        raise Invalid("error", row["error"], "none: a run that did not fail")
    stats = an_object("feedback_stats", _decoded(row.get("feedback_stats")) or {})
    scores: Scores = [
        (str(name), value.get("avg")) for name, value in stats.items() if isinstance(value, Mapping)
    ]
    scores += _scores(row.get("feedback"), "feedback")
    return Trace(row.get("inputs"), row.get("outputs"), ("inputs", "outputs"), scores)


def otel(row: Row) -> list[Trace]:
    """OpenTelemetry: the spans of an OTLP export (`resourceSpans`) or one span that hold messages of a GenAI call."""
    found = [trace for span, where in _spans(row) if (trace := _span(span, where)) is not None]
    if not found:
        accepted = (
            "at least one span with gen_ai.input.messages and gen_ai.output.messages, or events of messages"
        )
        raise Invalid("resourceSpans" if "resourceSpans" in row else "attributes", "no messages", accepted)
    return found


def otel_demonstrations(row: Row) -> Any:
    """Return a list with a demonstration of each answer that no score rejects. Raises `Invalid` where none is left."""
    traces = otel(row)
    kept = [trace for trace in traces if trace.liked() is not False]
    return [trace.demonstration() for trace in kept or traces[:1]]


def otel_likes(row: Row) -> Any:
    """Return a list with a like of each answer with a verdict. Raises `Invalid` where none has one."""
    traces = otel(row)
    kept = [trace for trace in traces if trace.liked() is not None]
    return [trace.like() for trace in kept or traces[:1]]


def is_otel(row: Row) -> bool:
    """Tell whether a row is an OTLP export or a span with GenAI attributes."""
    if "resourceSpans" in row:
        return True
    return any(name.startswith("gen_ai.") for name in _attributes(row.get("attributes")))


def messages_of(value: object, where: str, role: str) -> Messages:
    """Return messages out of the shapes in which frameworks log them; a plain text is one of `role`. Raises `Invalid`."""
    value = _decoded(value)
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}]
    if isinstance(value, list) and value:
        if isinstance(value[0], list):  # a batch of one
            return messages_of(value[0], f"{where}[0]", role)
        return [one for n, part in enumerate(value) for one in messages_of(part, f"{where}[{n}]", role)]
    if isinstance(value, Mapping):
        return _from_object(value, where, role)
    raise Invalid(where, value, "a text, a message, or a list of messages")


def _from_object(value: Row, where: str, role: str) -> Messages:
    for name in ("messages", "generations", "message"):
        if value.get(name):
            return messages_of(value[name], f"{where}.{name}", role)
    if choices := value.get("choices"):
        return messages_of(a_list(f"{where}.choices", choices)[0], f"{where}.choices[0]", role)
    if isinstance(value.get("kwargs"), Mapping):  # as LangChain serialises its messages
        path = value.get("id")
        name = (
            str(path[-1] if isinstance(path, list) and path else "")
            .removesuffix("Chunk")
            .removesuffix("Message")
            .lower()
        )
        return [_message({"type": name, **value["kwargs"]}, f"{where}.kwargs", role)]
    if value.get("role") or value.get("type") in ("human", "ai", "system", "tool"):
        return [_message(value, where, role)]
    texts = [name for name in _TEXTS if isinstance(value.get(name), str) and value[name].strip()]
    if len(texts) == 1:
        return [{"role": role, "content": value[texts[0]]}]
    raise Invalid(where, sorted(value), "messages, choices, generations, or one text")


def _message(value: Row, where: str, role: str) -> dict[str, Any]:
    said = str(value.get("role") or value.get("type") or role)
    made = {"role": _ROLES.get(said, said)}
    made |= {name: value[name] for name in _KEPT if value.get(name)}
    if "parts" in value:
        made["content"] = _parts(value["parts"], f"{where}.parts")
    elif isinstance(value.get("content"), list):
        made["content"] = _parts(value["content"], f"{where}.content")
    made.setdefault("content", "")
    return made


def _parts(parts: object, where: str) -> str:
    """Return the text of parts; reasoning is left out. Raises `Invalid` for a part that is no text."""
    texts = []
    for n, part in enumerate(a_list(where, parts)):
        part = {"type": "text", "text": part} if isinstance(part, str) else an_object(f"{where}[{n}]", part)
        if part.get("type") in ("reasoning", "thinking"):
            import_notes.unused(f"{where}.reasoning")
            continue
        text = part.get("content", part.get("text"))
        if part.get("type", "text") not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise Invalid(f"{where}[{n}]", part.get("type"), "a part of text")
        texts.append(text)
    return "\n".join(texts)


def _scores(value: object, where: str) -> Scores:
    """Return names and values of scores: a list of objects, or an object of values or lists of them."""
    value = _decoded(value)
    if not value:
        return []
    if isinstance(value, Mapping):
        return [
            (str(name), one)
            for name, given in value.items()
            for one in (given if isinstance(given, list) else [given])
        ]
    found = []
    for n, item in enumerate(a_list(where, value)):
        score = an_object(f"{where}[{n}]", item)
        given = next(
            (score[key] for key in ("value", "score", "stringValue") if score.get(key) is not None), None
        )
        found.append((str(score.get("name") or score.get("key")), given))
    return found


def _verdict(value: object) -> bool | None:
    said = value.strip().lower().replace(" ", "_") if isinstance(value, str) else value
    if not isinstance(said, str | int | float):
        return None
    return True if said in _GOOD else False if said in _BAD else None


def _decoded(value: object) -> Any:
    """Return what a text of JSON says, as cells of CSV and attributes of spans hold it; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with suppress(Invalid):
            return json_rows.parse(value)
    return value


# ---- OpenTelemetry


def _spans(row: Row) -> Iterator[tuple[Row, str]]:
    if "resourceSpans" not in row:
        row.get("context")  # ids, in the form of the SDK's console exporter
        yield row, "span"
        return
    for r, resource in enumerate(a_list("resourceSpans", row.get("resourceSpans"))):
        at = f"resourceSpans[{r}].scopeSpans"
        for s, scope in enumerate(a_list(at, an_object(at, resource).get("scopeSpans"))):
            spans = f"{at}[{s}].spans"
            for n, span in enumerate(a_list(spans, an_object(spans, scope).get("spans"))):
                yield an_object(f"{spans}[{n}]", span), f"{spans}[{n}]"


def _span(span: Row, where: str) -> Trace | None:
    """Return the answer of a span, None for one without messages."""
    said = _attributes(span.get("attributes"))
    asked: Any = []
    answered: Any = []
    scores: Scores = []
    for n, item in enumerate(a_list(f"{where}.events", span.get("events") or [])):
        event = an_object(f"{where}.events[{n}]", item)
        given, name = _attributes(event.get("attributes")), str(event.get("name"))
        if name == "gen_ai.choice":
            answered += messages_of(given.get("message") or given, f"{where}.events.{name}", "assistant")
        elif name.startswith("gen_ai.") and name.endswith(".message"):
            asked.append({"role": name.split(".")[1], "content": given.get("content", "")})
        elif name == "gen_ai.evaluation.result":
            score = given.get("gen_ai.evaluation.score.value", given.get("gen_ai.evaluation.score.label"))
            scores.append((str(given.get("gen_ai.evaluation.name")), score))
        else:
            said |= {key: value for key, value in given.items() if key.startswith("gen_ai.")}
    asked = (
        said.get("gen_ai.input.messages") or said.get("gen_ai.prompt") or _numbered(said, "prompt") or asked
    )
    answered = (
        said.get("gen_ai.output.messages")
        or said.get("gen_ai.completion")
        or _numbered(said, "completion")
        or answered
    )
    if not asked or not answered:
        return None
    names = (f"{where}.gen_ai.input.messages", f"{where}.gen_ai.output.messages")
    trace = Trace(asked, answered, names, scores)
    if system := _decoded(said.get("gen_ai.system_instructions")):
        text = system if isinstance(system, str) else _parts(system, f"{where}.gen_ai.system_instructions")
        trace.prompt.insert(0, {"role": "system", "content": text})
    return trace


def _numbered(said: Row, part: str) -> Messages:
    """Return messages that are spread over attributes such as `gen_ai.prompt.0.role`."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in said.items():
        place, _, field = name.removeprefix(f"gen_ai.{part}.").partition(".")
        if name.startswith(f"gen_ai.{part}.") and place.isdecimal() and field in ("role", "content"):
            found.setdefault(int(place), {})[field] = value
    return [found[place] for place in sorted(found)]


def _attributes(value: object) -> dict[str, Any]:
    """Return attributes by name, from OTLP's list of keys and values or an object."""
    if isinstance(value, Mapping):
        return dict(value)
    found = {}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("key"), str):
            found[item["key"]] = _any_value(item.get("value"))
    return found


def _any_value(value: object) -> Any:
    if not isinstance(value, Mapping) or not value:
        return value
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue":
        return [_any_value(one) for one in (inner or {}).get("values", [])]
    if kind == "kvlistValue":
        return _attributes((inner or {}).get("values"))
    return int(inner) if kind == "intValue" else inner
