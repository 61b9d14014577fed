"""A conversation as the Chat screen holds it: frozen values, no Gradio, no requests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from feedback_ui import texts
from feedback_ui.html import duration, esc
from feedback_ui.model_text import rendered


@dataclass(frozen=True)
class Turn:
    """One message, and for an answer who gave it; `seconds` is how long it took, `first` until its first token."""

    role: str
    content: str
    release: str = ""
    lane: str = ""
    completion_id: str = ""
    liked: bool | None = None
    seconds: float | None = None
    first: float | None = None
    done: bool = True


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
    """The turns of one conversation; `conversation` is its id on the platform once that is known."""

    conversation: str | None = None
    turns: tuple[Turn, ...] = field(default=())
    thumbs: Thumbs = field(default_factory=Thumbs, compare=False)

    def said(self, text: str) -> Talk:
        """Add the person's message."""
        return replace(self, turns=(*self.turns, Turn("user", text)))

    def answered(self, turn: Turn) -> Talk:
        """Add an answer, or replace the unfinished one at the end."""
        open_end = bool(self.turns) and self.turns[-1].role == "assistant" and not self.turns[-1].done
        kept = self.turns[:-1] if open_end else self.turns
        return replace(self, turns=(*kept, turn))

    def settled(self) -> Talk:
        """Close an answer that was stopped; one without a word is dropped."""
        if not self.turns or self.turns[-1].done:
            return self
        last = replace(self.turns[-1], done=True)
        return replace(self, turns=(*self.turns[:-1], last) if last.content else self.turns[:-1])

    def before(self, index: int) -> Talk:
        """Cut back to the person's message at `index` or the nearest one before it, and keep that message."""
        for at in range(min(index, len(self.turns) - 1), -1, -1):
            if self.turns[at].role == "user":
                return replace(self, turns=self.turns[: at + 1])
        return replace(self, turns=())

    def reworded(self, index: int, text: str) -> Talk:
        """Replace the person's message at `index` and drop what followed."""
        return replace(self, turns=(*self.turns[:index], Turn("user", text)))

    def messages(self) -> list[dict[str, str]]:
        """Return the turns as chat messages for the API, without an empty or unfinished answer at the end."""
        return [{"role": t.role, "content": t.content} for t in self.settled().turns if t.content]

    def bubbles(self) -> list[dict[str, Any]]:
        """Return the turns as messages for `gr.Chatbot`, each finished answer signed by its release."""
        return [bubble(t.role, rendered(t.content) + signature(t)) for t in self.turns]

    def awaiting(self, text: str) -> list[dict[str, Any]]:
        """Return the turns with a bubble that says what the next answer waits for."""
        note = f'<span class="tt-typing">{esc(text)}</span>'
        return [*self.bubbles(), bubble("assistant", note)]

    def thumb_names(self) -> list[str | None]:
        """Return the thumbs for `gr.Chatbot(feedback_value=...)`: one entry per answer."""
        names = {True: "Like", False: "Dislike", None: None}
        return [names[self._liked(i)] for i, turn in enumerate(self.turns) if turn.role == "assistant"]

    def _liked(self, index: int) -> bool | None:
        turn = self.turns[index]
        if index in self.thumbs.early:
            return self.thumbs.early[index]
        return self.thumbs.given.get(turn.completion_id, turn.liked)


def bubble(role: str, html: str) -> dict[str, Any]:
    """Make a message for `gr.Chatbot`: as a part, since Gradio expands the tabs of a plain string."""
    return {"role": role, "content": [{"type": "text", "text": html}]}


def signature(turn: Turn) -> str:
    """Return the line below an answer that names its release; the page's script leaves it out of copies."""
    if turn.role != "assistant" or not turn.done:
        return ""
    body = "" if turn.content.strip() else f'<span class="tt-subdued">{esc(texts.CHAT_EMPTY_ANSWER)}</span>'
    if not turn.release:
        return body
    lane = f" · {turn.lane}" if turn.lane and turn.lane != "pinned" else ""
    took = f" · {duration(turn.seconds)}" if turn.seconds is not None else ""
    return f'{body}<span class="tt-by">{esc(turn.release)}{esc(lane)}{took}</span>'


def from_record(record: dict[str, Any]) -> Talk:
    """Read a conversation as `GET /api/conversations/{id}` returns it."""
    turns = []
    for message in record.get("messages", ()):
        turns.append(
            Turn(
                role=str(message.get("role", "user")),
                content=str(message.get("content", "")),
                release=str(message.get("release") or ""),
                lane=str(message.get("lane") or ""),
                completion_id=str(message.get("completion_id") or ""),
                liked=message.get("liked"),
            )
        )
    return Talk(record.get("id"), tuple(t for t in turns if t.role in ("user", "assistant")))


def message_index(index: int | tuple[int, int] | list[int]) -> int:
    """Return the number of the message that an event of the conversation names."""
    return index if isinstance(index, int) else index[0]
