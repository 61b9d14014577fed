"""A conversation as the Chat screen holds it: frozen values, no Gradio, no requests."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from feedback_ui.bubbles import bubble, bubble_of, context, earlier
from feedback_ui.html import esc
from feedback_ui.turn import ROLES, STOPPED, SYSTEM_ROLES, Turn, read_turn

__all__ = ["Talk", "Thumbs", "Turn", "from_record", "message_index"]


SHOWN, MORE = 40, 160
"""Bubbles that are shown of a conversation that is opened, and how many more at a time: 1,000 take a browser seconds."""


@dataclass
class Thumbs:
    """Thumbs given since the page was opened; all versions of one `Talk` share them.

    An answer can be rated once it is recorded: what is given while it still streams waits in `early`, by the turn.
    """

    given: dict[str, bool | None] = field(default_factory=dict)
    early: dict[int, bool | None] = field(default_factory=dict)
    streaming: int | None = None

    def begin(self, index: int) -> None:
        """Note that the turn at `index` is being written."""
        self.streaming = index

    def wait(self, index: int, liked: bool | None) -> bool:
        """Keep a thumb on the turn at `index` where that is still being written; else False."""
        if self.streaming is None or index < self.streaming:
            return False
        self.early[self.streaming] = liked
        return True

    def due(self) -> dict[int, bool | None]:
        """Take the thumbs that waited for the answer which has now ended."""
        due, self.early, self.streaming = self.early, {}, None
        return due


@dataclass(frozen=True)
class Talk:
    """The turns of one conversation; `conversation` is its id on the platform once that is known.

    `replaced` are the versions of the answer that the next one stands beside, `hidden` is how many bubbles at the
    beginning of a long one are not shown.
    """

    conversation: str | None = None
    turns: tuple[Turn, ...] = field(default=())
    thumbs: Thumbs = field(default_factory=Thumbs, compare=False)
    replaced: tuple[str, ...] = ()
    hidden: int = 0

    def named(self) -> Talk:
        """Give a new conversation its id, so that its address holds before its first answer is recorded."""
        return self if self.conversation else replace(self, conversation=f"conv-{secrets.token_hex(13)}")

    def said(self, text: str) -> Talk:
        """Add the person's message."""
        return replace(self, turns=(*self.turns, Turn("user", text)), replaced=())

    def answered(self, turn: Turn) -> Talk:
        """Add an answer, or replace the unfinished one at the end."""
        open_end = bool(self.turns) and self.turns[-1].role == "assistant" and not self.turns[-1].done
        kept = self.turns[:-1] if open_end else self.turns
        if self.replaced:
            turn = replace(turn, versions=(*self.replaced, ""))
        return replace(self, turns=(*kept, turn))

    def settled(self) -> Talk:
        """Close an answer that was stopped; one without a word is dropped."""
        if not self.turns or self.turns[-1].done:
            return self
        last = replace(self.turns[-1], done=True, finish_reason=STOPPED)
        kept = bool(last.content or last.carried)
        return replace(self, turns=(*self.turns[:-1], last) if kept else self.turns[:-1])

    def unanswered(self) -> Talk:
        """Cut the answer off: the person's last message, or the result of a tool that was called after it, is the end."""
        for end in range(len(self.turns), 0, -1):
            if self.turns[end - 1].role in ("user", "tool"):
                return replace(self, turns=self.turns[:end], replaced=_versions(self.turns[end:]))
        return replace(self, turns=())

    def reworded(self, index: int, text: str) -> Talk:
        """Replace the text of the person's message at `index` and leave out what followed: another version of it."""
        before = _versions(self.turns[index:])
        reworded = replace(self.turns[index], content=text, id="", versions=(*before, "") if before else ())
        return replace(self, turns=(*self.turns[:index], reworded), replaced=())

    def continuing(self) -> Talk:
        """Open the answer at the end again, where it was cut: the next one has it as its beginning."""
        return replace(self, turns=self.turns[:-1], replaced=_versions(self.turns[-1:]))

    def messages(self) -> list[dict[str, Any]]:
        """Return the turns as chat messages for the API, without an empty or unfinished answer.

        Calls, results and definitions of tools go along. Thinking does where tools were called since the person's last
        message: chat templates read it there, and leave out what was thought before.
        """
        turns = self.settled().turns
        asked = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
        sent = [turn.message(place > asked) for place, turn in enumerate(turns) if turn.says]
        if sent and turns[0].carried.get("tools"):
            sent[0]["tools"] = turns[0].carried["tools"]
        return sent

    def bubbles(self) -> list[dict[str, Any]]:
        """Return the turns as messages for `gr.Chatbot`, each finished answer signed by its release."""
        runs = self.runs()
        return [bubble_of(turns, last=turns is runs[-1]) for turns in runs]

    def runs(self) -> list[list[Turn]]:
        """Return the turns of each bubble: one of the person, or all between two of them."""
        return [[self.turns[place] for place in places] for places in self._bubbles()]

    def awaiting(self, text: str) -> list[dict[str, Any]]:
        """Return the turns with a bubble that says what the next answer waits for."""
        note = f'<span class="tt-typing">{esc(text)}</span>'
        return [*self.bubbles(), bubble("assistant", note)]

    def context(self, key: str = "") -> str:
        """Return what stands above the bubbles: system messages and tools. `key` tells its fold from others of the page."""
        return context(self.turns, key) + earlier(self.hidden, min(self.hidden, MORE))

    def with_earlier(self) -> Talk:
        """Show `MORE` bubbles more of a long conversation."""
        return replace(self, hidden=max(0, self.hidden - MORE))

    def turn_at(self, index: int) -> int:
        """Return the number of the turn that an event on the bubble `index` means: the last answer in it.

        Beyond the last bubble, and in it while an answer is being written, it is the turn that comes next.
        """
        bubbles = self._bubbles()
        if index >= len(bubbles):
            return len(self.turns)
        place = self._answer_in(bubbles[index])
        is_last = index == len(bubbles) - 1 and self.turns[place].role != "user"
        return max(place, self.thumbs.streaming or 0) if is_last else place

    def _answer_in(self, places: list[int]) -> int:
        return next((place for place in reversed(places) if self.turns[place].role != "tool"), places[-1])

    def _bubbles(self) -> list[list[int]]:
        """Return the numbers of the turns in each bubble that is shown."""
        found: list[list[int]] = []
        for place, turn in enumerate(self.turns):
            if turn.role in SYSTEM_ROLES:
                continue
            if turn.role == "user" or not found or self.turns[found[-1][0]].role == "user":
                found.append([])
            found[-1].append(place)
        return found[self.hidden :]

    def thumb_names(self) -> list[str | None]:
        """Return the thumbs for `gr.Chatbot(feedback_value=...)`: one entry per answer."""
        names = {True: "Like", False: "Dislike", None: None}
        return [
            names[self._liked(self.turn_at(index), self.turns[self._answer_in(places)])]
            for index, places in enumerate(self._bubbles())
            if self.turns[places[0]].role != "user"
        ]

    def _liked(self, index: int, turn: Turn) -> bool | None:
        if index in self.thumbs.early:
            return self.thumbs.early[index]
        return self.thumbs.given.get(turn.completion_id, turn.liked)


def from_record(record: dict[str, Any]) -> Talk:
    """Read a conversation as `GET /api/conversations/{id}` returns it."""
    turns = [read_turn(message) for message in record.get("messages", ())]
    talk = Talk(record.get("id"), tuple(turn for turn in turns if turn.role in ROLES))
    return replace(talk, hidden=max(0, len(talk.runs()) - SHOWN))


def _versions(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    """Return the ids that lead to the versions of the first of some turns; one that is not stored has none."""
    if not turns:
        return ()
    known = next((turn.key for turn in turns if turn.key), "")
    versions = turns[0].versions or ("",)
    return tuple(filter(None, (id or known for id in versions)))


def message_index(index: int | tuple[int, int] | list[int]) -> int:
    """Return the number of the message that an event of the conversation names."""
    return index if isinstance(index, int) else index[0]
