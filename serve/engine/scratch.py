"""The directory for an engine's sockets and temporary files, in which it finds what an earlier start compiled."""

from __future__ import annotations

import contextlib
import getpass
import tempfile
from pathlib import Path

from serve.engine.process import make_scratch


def make_engine_scratch() -> Path:
    """Return a scratch directory in which torch finds what it compiled at an earlier start. Blocking."""
    scratch = make_scratch()
    with contextlib.suppress(OSError, KeyError):  # no name for this user: it compiles again
        name = f"torchinductor_{getpass.getuser()}"
        shared = Path(tempfile.gettempdir(), name)
        shared.mkdir(exist_ok=True)
        (scratch / name).symlink_to(shared)
    return scratch
