"""What a client's headers say of a chat request: whose it is, which conversation, what kind, and whether to keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from serve.errors import RequestError
from serve.gateway.responses import header
from store.accounts import names
from store.errors import Invalid

CONVERSATION_HEADERS = (
    b"x-trimtab-conversation",
    b"x-openwebui-chat-id",
    b"x-conversation-id",
    b"x-chat-id",
    b"x-session-id",
)
"""Where front ends put the id of a conversation; the first that is there counts."""
TASK_HEADERS = (b"x-trimtab-task", b"x-openwebui-task")
USER_HEADER, SOURCE_HEADER, STORE_HEADER = b"x-trimtab-user", b"x-trimtab-source", b"x-trimtab-store"
_CONVERSATIONS, _TASKS = frozenset(CONVERSATION_HEADERS), frozenset(TASK_HEADERS)
_READ = _CONVERSATIONS | _TASKS | {USER_HEADER, SOURCE_HEADER, STORE_HEADER}
API, FRONT_END, TASK = "api", "frontend", "task"
_STORE = {"true": True, "1": True, "false": False, "0": False}
_OPEN_WEBUI_TASK = "### Task:"


class ClientHeaders(NamedTuple):
    """What the headers say; None where they say nothing."""

    conversation: str | None = None
    user: str | None = None
    task: str | None = None
    source: str | None = None
    store: bool = True


_NOTHING = ClientHeaders()


def read(headers: Mapping[bytes, bytes]) -> ClientHeaders:
    """Read them all; raises `RequestError` (400) naming the header that is wrong."""
    present = _READ.intersection(headers)
    if not present:  # most requests of programs; the hot path counts in microseconds
        return _NOTHING
    return ClientHeaders(
        None if _CONVERSATIONS.isdisjoint(present) else _first(headers, CONVERSATION_HEADERS),
        person(headers) if USER_HEADER in present else None,
        None if _TASKS.isdisjoint(present) else _first(headers, TASK_HEADERS),
        _source(headers) if SOURCE_HEADER in present else None,
        _stores(headers) if STORE_HEADER in present else True,
    )


def person(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the person of `X-Trimtab-User`, spelled as every door spells names.

    UTF-8, else Latin-1; a percent-encoded name (as Open WebUI sends them) is decoded.
    """
    text = header(headers, USER_HEADER)
    if text is None:
        return None
    try:
        return names.person_name(unquote(text, errors="strict") if "%" in text else text, "X-Trimtab-User")
    except (Invalid, UnicodeError) as error:
        message = f"X-Trimtab-User is {text!r}; accepted: {names.RULE}."
        raise RequestError(message, "x-trimtab-user") from error


def named_user(body: Mapping[str, object]) -> str | None:
    """Return OpenAI's `user` of a body in the one spelling of names; it is kept nowhere. Raises `RequestError`."""
    named = body.get("user")
    if named is None:
        return None
    if not isinstance(named, str):
        raise RequestError("`user` must be text.", "user")
    return names.spell(named)


def source_of(said: ClientHeaders, messages: Sequence[Mapping[str, object]]) -> tuple[str, str | None]:
    """Return the source of a conversation (`task`, `frontend`, `api` or the name that the client gave) and its task."""
    if task := said.task or _task_in(messages):
        return TASK, task
    if said.source:
        return said.source, None
    return (FRONT_END if said.conversation else API), None


def _task_in(messages: Sequence[Mapping[str, object]]) -> str | None:
    """Recognise the titles, tags and follow-ups that Open WebUI asks for where no header says so."""
    if len(messages) != 1:
        return None
    content = messages[0].get("content")
    return "open-webui" if isinstance(content, str) and content.startswith(_OPEN_WEBUI_TASK) else None


def _first(headers: Mapping[bytes, bytes], candidates: tuple[bytes, ...]) -> str | None:
    for name in candidates:
        if name in headers and (found := header(headers, name)):
            return found
    return None


def _source(headers: Mapping[bytes, bytes]) -> str | None:
    text = header(headers, SOURCE_HEADER)
    if text is not None and not names.SOURCE.fullmatch(text):
        raise RequestError(
            f"X-Trimtab-Source is {text!r}; accepted: 1 to 40 lower-case letters, digits or . _ -.",
            "x-trimtab-source",
        )
    return text


def _stores(headers: Mapping[bytes, bytes]) -> bool:
    text = header(headers, STORE_HEADER)
    if text is None:
        return True
    if (stores := _STORE.get(text.lower())) is None:
        raise RequestError(
            f"X-Trimtab-Store is {text!r}; accepted: true, false.",
            "x-trimtab-store",
            accepted=["true", "false"],
        )
    return stores
