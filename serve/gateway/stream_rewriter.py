"""A stream of server-sent events on its way through: bytes in, bytes out, nothing parsed.

Only two things are touched: the engine's name of the model (an adapter's hash) becomes the release's public name, by
replacing bytes that can stand nowhere else in a JSON text (inside a string the quotes would be escaped), and the event
that reports usage is kept for counting and left out where the client did not ask for it. Events with a token are
counted in the same way, for a stream that ends before its usage comes. `Marks` says how a protocol writes both.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

END = b"\n\n"


class Marks(NamedTuple):
    """Bytes that stand once in each event that reports usage, and once in each that brings a token."""

    usage: bytes
    token: bytes


CHOICES = Marks(usage=b'"choices":[],', token=b'"choices":[{')
"""Of chat completions and completions."""


class StreamRewriter:
    """Rewrites one stream. `feed` takes bytes as they come and returns bytes to pass on, whole events at a time.

    `usage_event` is the event that reported usage, None until it came; `events` is how many brought a token.
    """

    __slots__ = ("_drop_usage", "_new", "_old", "_rest", "_token", "_usage", "events", "usage_event")

    def __init__(
        self, engine_model: str, public_model: str, drop_usage: bool, marks: Marks = CHOICES
    ) -> None:
        self._usage, self._token = marks
        self._old = model_field(engine_model)
        self._new = model_field(public_model)
        self._drop_usage = drop_usage
        self._rest = b""
        self.usage_event: bytes | None = None
        self.events = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; returns what may go out now, at times nothing."""
        if self._rest:
            chunk = self._rest + chunk
            self._rest = b""
        if not chunk.endswith(END):
            cut = chunk.rfind(END) + len(END)
            if cut < len(END):
                self._rest = chunk
                return b""
            chunk, self._rest = chunk[:cut], chunk[cut:]
        self.events += chunk.count(self._token)
        if self._usage in chunk:
            chunk = self._without_usage(chunk)
        return chunk.replace(self._old, self._new)

    @property
    def has_begun(self) -> bool:
        """Whether a token, or the usage of an answer without any, has gone through."""
        return self.events > 0 or self.usage_event is not None

    def finish(self) -> bytes:
        """Return what was held back, for a stream that ended in the middle of an event."""
        rest, self._rest = self._rest, b""
        return rest.replace(self._old, self._new)

    def _without_usage(self, chunk: bytes) -> bytes:
        kept = []
        for event in chunk.split(END):
            if self._usage in event and b'"usage":{' in event:
                self.usage_event = event
                if self._drop_usage:
                    continue
            kept.append(event)
        return END.join(kept)


def model_field(name: str) -> bytes:
    """Return the bytes of a JSON text that say `"model":"name"`."""

    return b'"model":' + orjson.dumps(name)


def error_event(message: str, code: str, status: int) -> bytes:
    """Return an event that ends a stream which broke: OpenAI's error form, which its clients raise."""

    error = {"message": message, "type": "server_error", "param": None, "code": code, "status": status}
    return b"data: " + orjson.dumps({"error": error}) + END
