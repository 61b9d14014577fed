"""Pause of all streams by a full garbage collection, with and without the loaded screens.

    python -m bench.starting.full_collection

The platform's imports and its screens are loaded as `trimtab up` loads them; medians of full collections before and after
`gc.freeze`, which `trimtab.ui_mount` does once they are open, with 20,000 dictionaries of chats under way in both.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time

from fastapi import FastAPI

ROUNDS = 9


def pause_ms() -> float:
    """Return the median time of a full collection, milliseconds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        gc.collect()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.parse_args()
    import feedback_ui
    import trimtab.app  # noqa: F401

    app = feedback_ui.mount(FastAPI(openapi_url=None), base_url="http://127.0.0.1:1")
    walked = len(gc.get_objects())
    gc.collect()
    gc.freeze()
    chats = [{"role": "user", "content": f"question {n}", "parts": [n]} for n in range(20_000)]
    after = pause_ms()
    gc.unfreeze()
    before = pause_ms()
    seen = {
        "objects": walked,
        "chats": len(chats),
        "loaded_ms": round(before, 1),
        "frozen_ms": round(after, 1),
    }
    figure = {
        "name": "full_collection",
        "figure": round(before / after, 1),
        "unit": "times shorter when frozen",
    }
    print(json.dumps(figure | {"seen": seen, "routes": len(app.routes)}))


if __name__ == "__main__":
    main()
