"""Chat: answer, wait for a loading engine, rate, look back, compare two answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from feedback_ui import texts
from feedback_ui.chat.conversation_list import conversations
from feedback_ui.chat.draft import Draft
from feedback_ui.conversation import Talk, Turn, from_record
from feedback_ui.frame.actions import Readiness, readiness, whoami
from feedback_ui.numbers import optional_float, optional_int
from feedback_ui.turn import read_turn
from trimtab_client import ApiError, AsyncClient
from trimtab_client.values import Choice

# The screen is redrawn at most this often (seconds, and more for each character): a token each redraw would only keep
# the browser busy, and rendering a long answer each time would hold up the streams of others.
_REDRAW_S, _REDRAW_CHARACTER_S = 0.08, 2e-5
_RETRY_S = 2.0
LISTED, _MAX_LISTED = 50, 500
"""Conversations that are listed at first."""
_SOURCES = ("chat", "earlier")
_LIKE_TRIES, _LIKE_RETRY_S = 20, 0.25


@dataclass(frozen=True)
class Progress:
    """A step of an answer: the conversation so far and, while nothing is written yet, what is waited for."""

    talk: Talk
    waiting: Readiness | None = None


@dataclass(frozen=True)
class Candidates:
    """Two to four blind responses to one conversation; `laid` is when they came before the person (monotonic, seconds).

    `a_message` and `b_message` are those responses that have tool calls or reasoning, whole; `whole` says that
    thinking is compared, too. `more` are the third and fourth, each with its whole message or None; `branches` are the
    messages by side of responses that go on for several turns. `reasons`, `skip_reasons` and `guidelines` are what the
    operator wrote for raters.
    """

    comparison: str
    a: str
    b: str
    messages: tuple[dict[str, Any], ...] = ()
    a_message: dict[str, Any] | None = None
    b_message: dict[str, Any] | None = None
    whole: bool = False
    more: tuple[tuple[str, dict[str, Any] | None], ...] = ()
    branches: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict, hash=False)
    reasons: tuple[str, ...] = ()
    skip_reasons: tuple[str, ...] = ()
    guidelines: str = ""
    laid: float = field(default_factory=time.monotonic, compare=False)

    @property
    def answers(self) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """The responses by side: the text, and the whole message of one that has more."""
        all_of_them = ((self.a, self.a_message), (self.b, self.b_message), *self.more)
        return dict(zip("abcd", all_of_them, strict=False))

    def seconds(self) -> float:
        """Return the seconds since they were written."""
        return time.monotonic() - self.laid


def candidates_of(made: Mapping[str, Any], messages: Sequence[dict[str, Any]] = ()) -> Candidates:
    """Read a comparison as the platform returns it."""
    return Candidates(
        comparison=made["id"],
        a=made["a"],
        b=made["b"],
        messages=tuple(messages),
        a_message=made.get("a_message"),
        b_message=made.get("b_message"),
        whole=made.get("show") == "whole",
        more=tuple((made[side], made.get(f"{side}_message")) for side in "cd" if made.get(side) is not None),
        branches=made.get("branches") or {},
        reasons=tuple(made.get("reasons") or ()),
        skip_reasons=tuple(made.get("skip_reasons") or ()),
        guidelines=made.get("guidelines") or "",
    )


async def model_choices(client: AsyncClient, exact: bool = False) -> list[tuple[str, str]]:
    """Return the names that may answer, deployments first, as (label, value); `exact` offers single releases, too."""
    rows = await client.models()
    names = [str(row["id"]) for row in rows]
    deployments = [name for name in names if any(other.startswith(f"{name}@") for other in names)]
    releases = [name for name in names if "@" in name]
    bases = [name for name in names if name not in deployments and name not in releases]
    return [
        *((name, name) for name in deployments),
        *((f"{name} (this release only)", name) for name in releases if exact),
        *((f"{name} (base model)", name) for name in bases),
    ]


async def default_model(client: AsyncClient) -> str:
    """Return the name that answers when none was chosen yet; raises `ApiError` (503) where nothing is served."""
    choices = await model_choices(client)
    if not choices:
        raise ApiError(503, "No model", texts.NO_MODELS)
    return choices[0][1]


def sampling(temperature: str, max_tokens: str) -> dict[str, Any]:
    """Return the sampling fields of a request; what is left empty stays with the release. Raises `ApiError` (422)."""
    fields = {
        "temperature": optional_float(
            temperature, texts.CHAT_TEMPERATURE, "a number from 0 to 2, or nothing"
        ),
        "max_tokens": optional_int(max_tokens, texts.CHAT_MAX_TOKENS, "a whole number above 0, or nothing"),
    }
    return {name: value for name, value in fields.items() if value is not None}


async def answer(
    client: AsyncClient, talk: Talk, model: str, options: dict[str, Any], begun: str = ""
) -> AsyncIterator[Progress]:
    """Stream the answer to a conversation that ends with the person's message; one that has `begun` is continued.

    While the engine loads (503) this waits and tries again, reporting what is waited for, until it serves or the
    caller closes the iterator. Closing it cancels the generation. Raises `ApiError` for every other refusal.
    """
    while True:
        try:
            async for progress in _stream(client, talk, model, options, begun):
                yield progress
            return
        except ApiError as error:
            if error.status != 503:
                raise
            wait = error.retry_after or _RETRY_S
        yield Progress(talk, await readiness(client))
        await asyncio.sleep(min(wait, _RETRY_S))


async def _stream(
    client: AsyncClient, talk: Talk, model: str, options: dict[str, Any], begun: str
) -> AsyncIterator[Progress]:
    draft = Draft(time.monotonic(), begun)
    shown = 0.0
    messages = talk.messages()
    if begun:
        messages.append({"role": "assistant", "content": begun})
        options = options | {"continue_final_message": True, "add_generation_prompt": False}
    async for delta in client.chat.stream(
        model, messages, conversation=talk.conversation, source="chat", **options
    ):
        now = time.monotonic()
        draft.add(delta, now)
        if talk.conversation is None and delta.conversation:
            talk = replace(talk, conversation=delta.conversation)
        size = draft.characters
        if size and now - shown >= _REDRAW_S + size * _REDRAW_CHARACTER_S:
            shown = now
            yield Progress(talk.answered(draft.turn(now, done=False)))
    if draft.last is None:
        raise ApiError(502, "empty_answer", "The engine closed the answer without a word")
    yield Progress(talk.answered(draft.turn(time.monotonic(), done=True)))


async def rate(client: AsyncClient, talk: Talk, index: int, liked: bool | None) -> None:
    """Record a thumb on the answer at `index`; raises `ApiError` where that was never recorded.

    A thumb on an answer that still streams waits in `talk.thumbs` for `rate_late`.
    """
    if talk.thumbs.wait(index, liked):
        return
    ident = talk.turns[index].completion_id if index < len(talk.turns) else ""
    if not ident:
        raise ApiError(409, texts.FAILED, texts.CHAT_LIKE_LATER)
    await _like(client, ident, liked)
    talk.thumbs.given[ident] = liked


async def rate_late(client: AsyncClient, talk: Talk, thumbs: dict[int, bool | None]) -> None:
    """Record `thumbs`, by turn, that were given while the answer at the end of `talk` was still being written."""
    for index, liked in thumbs.items():
        if index < len(talk.turns):
            await rate(client, talk, index, liked)


async def _like(client: AsyncClient, ident: str, liked: bool | None) -> None:
    """Send a thumb; an answer is recorded a moment after its last token, and unknown (404) until then."""
    for _ in range(_LIKE_TRIES):
        try:
            await client.chat.like(ident, liked)
            return
        except ApiError as error:
            if error.status != 404:
                raise
        await asyncio.sleep(_LIKE_RETRY_S)
    await client.chat.like(ident, liked)


async def history(client: AsyncClient, limit: int = LISTED, search: str = "") -> list[dict[str, Any]]:
    """Return the conversations that the caller began here (or before it was kept where), newest first.

    `search` picks those with a text in one of their messages.
    """
    found = await client.chat.conversations(limit, _SOURCES, search.strip() or None, mine=True)
    return list(found or ())


async def listed(
    client: AsyncClient,
    current: str | None,
    *,
    search: str = "",
    limit: int = LISTED,
    undo: str = "",
    rows: list[dict[str, Any]] | None = None,
) -> str:
    """Return the list as HTML; `undo` is the conversation that was just deleted, `rows` what is listed already."""
    if rows is None:
        rows = await history(client, limit, search)
    deleted = [] if search.strip() else await client.chat.conversations(limit, _SOURCES, deleted=True)
    nothing = texts.CHAT_SEARCH_EMPTY if search.strip() else texts.CHAT_HISTORY_EMPTY
    more = min(limit + 2 * LISTED, _MAX_LISTED) if len(rows) >= limit < _MAX_LISTED else 0
    return conversations(rows, current, nothing, deleted, undo, more)


async def listed_with(client: AsyncClient, conversation: str | None) -> str:
    """Return the list as HTML, waiting until a new one, recorded a moment after its last token, is in."""
    rows = await history(client)
    for _ in range(8):
        if conversation is None or any(row.get("id") == conversation for row in rows):
            break
        await asyncio.sleep(0.25)
        rows = await history(client)
    return await listed(client, conversation, rows=rows)


async def counted(client: AsyncClient, talk: Talk, model: str) -> dict[str, Any] | None:
    """Return how many tokens a conversation has, and how many the model reads; None where no engine says it."""
    messages = talk.messages()
    if not messages:
        return None
    try:
        return dict(await client.chat.count_tokens(model or await default_model(client), messages))
    except ApiError:
        return None


async def is_operator(client: AsyncClient) -> bool:
    """Return whether the caller has the role ops."""
    return "ops" in (await whoami(client) or {}).get("roles", ())


async def caller(client: AsyncClient) -> str:
    """Return the name of the caller; nothing where the platform does not know them."""
    return str((await whoami(client) or {}).get("name") or "")


async def reopen(client: AsyncClient, conversation: str, message: str | None = None) -> Talk:
    """Load one conversation: the branch with a message in it, else the one that was answered last."""
    return from_record(await client.chat.conversation(conversation, message))


def continued_by(turn: Turn, model: str) -> str:
    """Return who continues an answer: the chosen model, else, where that is another one, the release that began it."""
    deployment = turn.release.split("@")[0]
    return model if model == turn.release or model.split("@")[0] == deployment else turn.release or model


async def two_answers(
    client: AsyncClient, talk: Talk, model: str, options: dict[str, Any] | None = None
) -> Candidates:
    """Ask for two blind answers to a conversation that ends with the person's message.

    The same path serves a pair that the platform itself offers: it too is a comparison with an id, a and b.
    """
    made = await client.preferences.compare(
        talk.messages(), deployment=model.split("@")[0], sampling=options, drawn=False
    )
    return candidates_of(made)


async def offered(
    client: AsyncClient, talk: Talk, model: str, options: dict[str, Any]
) -> tuple[Talk, Candidates] | None:
    """Return two blind answers where the platform samples this turn (pair mode), else None.

    Without the role to vote nothing is offered.
    """
    if "@" in model:
        return None
    try:
        made = await client.preferences.offer(talk.messages(), model, talk.conversation, options)
    except ApiError:
        return None  # the answer itself says what is wrong, or waits for a loading engine
    if made is None:
        return None
    return replace(talk, conversation=made["conversation"]), candidates_of(made)


async def choose(client: AsyncClient, talk: Talk, pair: Candidates, choice: Choice) -> Talk:
    """Vote on two answers; the chosen one (A for a tie) joins the conversation, signed by what the vote revealed."""
    vote = await client.preferences.vote(pair.comparison, choice, seconds=pair.seconds())
    if choice == "both_bad":
        return talk
    kept = "b" if choice == "b" else "a"
    revealed = (vote or {}).get("revealed", {})
    text, message = (pair.b, pair.b_message) if kept == "b" else (pair.a, pair.a_message)
    chosen = read_turn(message) if message else Turn("assistant", text)
    return replace(talk, replaced=()).answered(replace(chosen, release=str(revealed.get(kept) or "")))
