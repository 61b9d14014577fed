"""A stream of server-sent events on its way through: bytes in, bytes out, nothing parsed.

Only two things are touched: the engine's name of the model (an adapter's hash) becomes the release's public name, by
replacing bytes that can stand nowhere else in a JSON text (inside a string the quotes would be escaped), and the event
that reports usage is kept for counting and left out where the client did not ask for it. Events with a choice are
counted in the same way, for a stream that ends before its usage comes.
"""

from __future__ import annotations

import orjson

END = b"\n\n"
USAGE = b'"choices":[],'
CHOICE = b'"choices":[{'


class StreamRewriter:
    """Rewrites one stream. `feed` takes bytes as they come and returns bytes to pass on, whole events at a time.

    `usage_event` is the event that reported usage, None until it came; `events` is how many had a choice.
    """

    __slots__ = ("_drop_usage", "_new", "_old", "_rest", "events", "usage_event")

    def __init__(self, engine_model: str, public_model: str, drop_usage: bool) -> None:
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
        self.events += chunk.count(CHOICE)
        if USAGE in chunk:
            chunk = self._without_usage(chunk)
        return chunk.replace(self._old, self._new)

    def finish(self) -> bytes:
        """Return what was held back, for a stream that ended in the middle of an event."""
        rest, self._rest = self._rest, b""
        return rest.replace(self._old, self._new)

    def _without_usage(self, chunk: bytes) -> bytes:
        kept = []
        for event in chunk.split(END):
            if USAGE in event and b'"usage":{' in event:
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
