"""A worker that does its imports before there is a run: they take longer than a short run's training.

It holds no model and no data, and touches no GPU that the imports themselves don't touch.
"""

from __future__ import annotations

import importlib
import os
import select
from pathlib import Path

from align.progress import StopSwitch

STDIN = 0
IMPORTS = (
    "align.training.pipeline",
    "bitsandbytes",
    "transformers.models.llama.modeling_llama",
)
"""What a run imports between its beginning and its end, whatever its method; a model of another family than Llama's
imports its own."""


def wait_for_run(stop: StopSwitch) -> Path | None:
    """Import everything, then return the run directory that standard input names; None when it ends without one.

    A request to stop ends the imports and the waiting at once. A run that was named by then is returned all the same, so
    that the caller ends it as any run that was stopped. `stop` is busy before and after.
    """
    try:
        stop.busy = False
        for name in IMPORTS:
            stop.check()  # libraries that try an import catch `Stopped` too
            importlib.import_module(name)
        stop.check()
        select.select([STDIN], [], [])
        stop.busy = True
    except BaseException:
        if not stop.requested:
            raise
        stop.busy = True
    # Not `sys.stdin`, whose buffer would lose what it holds when a signal cuts a read short.
    named = b""
    while not named.endswith(b"\n") and select.select([STDIN], [], [], 0 if stop.requested else None)[0]:
        part = os.read(STDIN, 65536)
        if not part:
            break
        named += part
    line = named.decode().rstrip("\n")
    return Path(line) if line else None
