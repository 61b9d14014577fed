"""The columns that rows bring: found by their names, the question put together from them, and which were used.

A column that is known to say something (`DECIDING`) is used, says what the row says anyway, or the row is refused; any
other that is not used is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from store import import_notes, message_text
from store.db.validation import finite
from store.errors import Invalid
from store.transfer.row_files import Unreadable

Row = Mapping[str, Any]
Messages = list[Any]

QUESTIONS = ("prompt", "question", "query", "instruction", "input", "context")
SYSTEMS = ("system", "system_prompt", "system_message")
CONVERSATIONS = ("messages", "conversations", "conversation")
TOOLS = ("tools", "functions")
NOT_KEPT = ("tool_calls", "images", "image", "videos", "audios")
"""Columns that a row has no place for: calls beside the messages, pictures and sound."""
DECIDING = (*QUESTIONS, *SYSTEMS, *CONVERSATIONS, "history", *TOOLS, *NOT_KEPT)
"""Columns that say what was asked: no row is taken with one of them left out."""

_NAMES = {
    *DECIDING, "chosen", "rejected", "completion", "label", "kto_tag", "output", "response", "answer", "answers",
    "generation", "generations", "rating", "ratings", "weight", "tags", "winner", "response_a", "response_b",
    "conversation_a", "conversation_b", "completions", "score_chosen", "score_rejected", "rejected_response",
    "rejected_messages", "response_0", "response_1", "response_2", "better_response_id", "safer_response_id",
    "preference_strength", "response1", "response2", "overall_preference", "preferred_output", "non_preferred_output",
}  # fmt: skip
_SCORES = (
    ("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("rating_chosen", "rating_rejected"),
    ("chosen_rating", "rejected_rating"), ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"), ("chosen_reward", "rejected_reward"),
)  # fmt: skip
_ABOUT = {
    "id", "uuid", "source", "dataset", "subset", "split", "model", "language", "lang", "category", "domain", "type", "task",
    "hash", "url", "license", "created_at", "timestamp", "date", "index", "idx", "rater", "annotator", "user", "status",
}  # fmt: skip
_ABOUT_ENDS = ("_id", "_model", "_source", "_hash", "_sha256", "_name", "-model")


def filled(value: object) -> bool:
    """Tell whether a cell says anything: not null, blank, empty or not a number."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value != [] and value != {} and value == value


class Seen(Mapping[str, Any]):
    """A row that remembers which of its columns were read."""

    __slots__ = ("row", "used")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.used: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.used.add(key)
        value = self.row[key]
        if isinstance(value, Unreadable):
            raise Invalid(key, "…", f"a value that can be read ({value.why})")
        return value

    def __contains__(self, key: object) -> bool:
        return key in self.row

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)


def named(row: Row) -> Row:
    """Return a row whose known columns have their names, found without regard to case and spaces.

    Raises `Invalid` for two columns of one name that both hold something.
    """
    found: dict[str, str] = {}
    for key in row:
        if key not in _NAMES and isinstance(key, str):
            name = "_".join(key.strip(" \t\r\n\ufeff").lower().split())
            if name in _NAMES and filled(row[key]):
                other = name if filled(row.get(name)) else found.get(name)
                if other is not None:
                    raise Invalid(name, sorted((key, other)), "one column of this name")
                found[name] = key
    if not found:
        return row
    import_notes.rule("columns_renamed")
    renamed = set(found.values())
    return {key: value for key, value in row.items() if key not in renamed} | {
        name: row[key] for name, key in found.items()
    }


def finish(row: Seen, texts: Iterable[str]) -> None:
    """Note the columns that were not used. Raises `Invalid` where one says what none of the row's `texts` says."""
    left = [key for key in row if key not in row.used and filled(row.row[key])]
    said: list[str] | None = None
    for key in left:
        if key in NOT_KEPT:
            if says_nothing(row[key]):
                continue
            raise Invalid(key, row[key], "none: a row has no place for this column")
        if key in DECIDING:
            said = said if said is not None else list(texts)
            for leaf in leaves(row[key]):
                if not any(message_text.within(leaf, text) for text in said):
                    raise Invalid(
                        key, row.row[key], "nothing here: rows of this format have no use for this column"
                    )
        import_notes.unused(str(key))


def lead(row: Row) -> Messages:
    """Return the messages before the question: a system column and a history column. Raises `Invalid`."""
    messages: Messages = []
    for name in SYSTEMS:
        if filled(value := row.get(name)):
            if not isinstance(value, str):
                raise Invalid(name, value, "text")
            if messages and messages[0]["content"] != value:
                raise Invalid(name, value, "one system column")
            messages = [{"role": "system", "content": value}]
            import_notes.rule("system_from_column")
    if filled(value := row.get("history")) and not says_nothing(value):
        messages += _history(value)
        import_notes.rule("history_from_column")
    return messages


def question(
    row: Row, transcripts: list[str] | None = None, conversations: Sequence[str] = CONVERSATIONS
) -> tuple[str, Messages] | None:
    """Return the column that says what was asked and its messages, None where none does.

    Columns that say the same, or a part of it, are one; of those that hold conversations only `conversations` count.
    `transcripts` gets the names of those that are transcripts. Raises `Invalid`.
    """
    found = {name: row[name] for name in QUESTIONS[:-1] if filled(row.get(name))}
    if isinstance(found.get("input"), Mapping):
        found.pop("input")  # OpenAI's
    if (
        "instruction" in found
        and isinstance(found.get("input"), str)
        and isinstance(found["instruction"], str)
    ):
        found["instruction"] = f"{found['instruction']}\n\n{found.pop('input')}"
    for name in conversations:
        if filled(row.get(name)):
            found[name] = row[name]
    if not found and filled(row.get("context")):
        found["context"] = row["context"]
    if not found:
        return None
    says = {name: "\n".join(leaves(value)) for name, value in found.items()}
    longest = max(found, key=lambda name: len(says[name]))
    for name, value in found.items():
        if not all(message_text.within(leaf, says[longest]) for leaf in leaves(value)):
            raise Invalid(name, value, f"either `{name}` or `{longest}`, not both: they say different things")
    if longest not in ("prompt", "messages"):
        import_notes.rule("prompt_from_column")
    return longest, read(found[longest], longest, transcripts)


def read(value: object, field: str, transcripts: list[str] | None = None) -> Messages:
    """Return the messages of a cell that says what was asked: text, a transcript, or messages."""
    if isinstance(value, str):
        if messages := message_text.read_messages(value):
            import_notes.rule("messages_in_text")
            return messages
        if (turns := message_text.transcript(value, field)) is None:
            return [{"role": "user", "content": value}]
        import_notes.rule("transcript")
        if transcripts is not None:
            transcripts.append(field)
        if turns[-1]["role"] == "assistant":
            if turns[-1]["content"]:
                raise Invalid(
                    field, value, "a transcript that ends before the answer: Assistant: and nothing after it"
                )
            turns.pop()
        return list(turns)
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and "role" not in item for item in value)
    ):
        return exchanges(value, field)
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, list):
        raise Invalid(field, value, "text, or a list of messages with at least one")
    return list(value)


def exchanges(value: Sequence[Mapping[str, Any]], field: str) -> Messages:
    """Return the messages of exchanges, {input, output} or {human, assistant}, and ShareGPT's as they are."""
    messages: Messages = []
    for place, item in enumerate(value):
        if "from" in item:
            messages.append(item)
            continue
        asked = next(
            (name for name in ("input", "human", "user", "instruction", "query") if name in item), None
        )
        answered = next((name for name in ("output", "assistant", "gpt", "response") if name in item), None)
        if asked is None:
            raise Invalid(f"{field}[{place}]", item, "a message, or an exchange of input and output")
        if place == 0 and filled(item.get("system")):
            messages.append({"role": "system", "content": item["system"]})
        messages.append({"role": "user", "content": item[asked]})
        if answered is not None and item[answered] is not None:
            messages.append({"role": "assistant", "content": item[answered]})
    return messages


def side(value: object, field: str, stripped: bool = False) -> object:
    """Return an answer as text or as messages. `stripped`: it follows a transcript, whose turns have no spaces around."""
    if isinstance(value, str):
        if message_text.looks_like_messages(value) and (messages := message_text.read_messages(value)):
            import_notes.rule("messages_in_text")
            return messages
        if value.startswith(("\n\nHuman:", "\n\nAssistant:", "<|im_start|>")):
            turns = message_text.transcript(value, field)
            import_notes.rule("transcript")
            return turns
        value = without_html(value, field)
        return value.strip() if stripped and isinstance(value, str) else value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and "role" not in item for item in value)
    ):
        return exchanges(value, field)
    if isinstance(value, Mapping):
        return [value]
    return value


def without_html(value: str, field: str) -> object:
    """Return an answer whose reasoning lies before it as HTML as a message that has it apart, any other as it is."""
    if "<details" not in value:
        return value
    answer, reasoning = message_text.without_reasoning(value, field)
    if not reasoning:
        return value
    return [{"role": "assistant", "content": answer, "reasoning_content": reasoning}]


def after(before: Messages, messages: Messages) -> Messages:
    """Return messages after those of `lead`. Raises `Invalid` for two system messages that differ."""
    if not before:
        return messages
    first = messages[0] if messages else None
    if isinstance(first, Mapping) and first.get("role") == "system" and before[0]["role"] == "system":
        if first.get("content") != before[0]["content"]:
            raise Invalid("system", before[0]["content"], "the system message that the messages begin with")
        before = before[1:]
        return [first, *before, *messages[1:]]
    return [*before, *messages]


def whole_conversation(messages: object) -> TypeGuard[Messages]:
    """Tell whether a side is a conversation from its start."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], Mapping):
        return False
    first = messages[0]
    role = first.get("role", message_text.ROLES.get(str(first.get("from", "")).lower()))
    return role in ("system", "developer", "user")


def check_preference(row: Row) -> None:
    """Refuse a row whose scores or status say that its `chosen` is not preferred. Raises `Invalid`."""
    for better, worse in _SCORES:
        if filled(row.get(better)) and filled(row.get(worse)):
            high, low = finite(better, row[better]), finite(worse, row[worse])
            if high <= low:
                why = "this is a tie" if high == low else f"that is {low:g}, so the row contradicts itself"
                raise Invalid(better, row[better], f"a score above {worse}: {why}")
    if row.get("status") == "tie":
        raise Invalid("status", "tie", "a row that prefers one of its answers: this is a tie")


def only_sides(row: Row) -> None:
    """Refuse a row with a text that may be its question under a name that is not known. Raises `Invalid`."""
    for key, value in row.items():
        about = key in _ABOUT or key.endswith(_ABOUT_ENDS)
        if (
            key not in ("chosen", "rejected", "weight", "tags")
            and not about
            and isinstance(value, str)
            and value.strip()
        ):
            raise Invalid(
                "prompt",
                None,
                f"a question in one of the columns {', '.join(QUESTIONS)} or messages; found: {', '.join(map(str, row))} "
                f"({key} may be it: what both answers begin with is the prompt only where there is no other text)",
            )


def says_nothing(value: object) -> bool:
    """Tell whether a cell writes an empty list or object."""
    return isinstance(value, str) and value.strip() in ("[]", "{}", "null", "None")


def _history(value: object) -> Messages:
    where = "an exchange: a question and its answer"
    if isinstance(value, str):
        value = message_text.read_literal(value)
    if not isinstance(value, list):
        raise Invalid("history", value, f"a list, each {where}")
    if all(map(message_text.is_message, value)):
        return list(value)
    messages: Messages = []
    for place, item in enumerate(value):
        if isinstance(item, Mapping):
            messages += exchanges([item], f"history[{place}]")
        elif isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item):
            messages += [{"role": "user", "content": item[0]}, {"role": "assistant", "content": item[1]}]
        else:
            raise Invalid(f"history[{place}]", item, where)
    return messages


def leaves(value: object) -> Iterator[str]:
    """Yield the texts within a value that say something."""
    if isinstance(value, str):
        if message_text.looks_like_messages(value):
            value = message_text.read_messages(value) or value
        if isinstance(value, str):
            if value.strip():
                yield value.strip()
            return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in ("role", "from", "type", "id"):
                yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, bytes):
        yield repr(value)  # a picture
