"""Which language a text is in, by py3langid."""

from __future__ import annotations

import threading

_one_at_a_time = threading.Lock()


def prepare() -> None:
    """Begin to load the model, which takes most of a second once in a process, beside other work."""
    threading.Thread(target=code, args=("Hello",), name="languages", daemon=True).start()


def code(text: str) -> str:
    """Return the ISO 639-1 code of the likeliest language. Waits where the model is being loaded."""
    with _one_at_a_time:
        import py3langid

        return str(py3langid.classify(text)[0])
