"""Judges with known habits behind an OpenAI-compatible URL, as servers of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bench.deciding.teach_cases import shorter

Verdict = Callable[[str, str], str]
"""Says `A`, `B` or `tie` of two answers."""


def agreeing(a: str, b: str) -> str:
    """Prefer the shorter answer, as the people of the bench do."""
    return {1.0: "A", 0.0: "B", 0.5: "tie"}[shorter(a, b)]


def contrary(a: str, b: str) -> str:
    """Prefer the longer answer."""
    return {"A": "B", "B": "A", "tie": "tie"}[agreeing(a, b)]


JUDGES: dict[str, Verdict] = {
    "agreeing": agreeing,
    "always A": lambda a, b: "A",
    "contrary": contrary,
    "without a verdict": lambda a, b: "I like both.",
}


@contextmanager
def judging(verdict: Verdict) -> Iterator[str]:
    """Serve a judge on a free port of this machine; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][0]["content"]
            a, b = (text.partition(f"<answer {side}>\n")[2].partition("\n</answer")[0] for side in "AB")
            said = json.dumps({"verdict": verdict(a, b)})
            answer = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
