"""A process that an `Engine` starts in vLLM's place: it answers probes, sleeps and wakes. Standard library only.

    python fake_engine_process.py PORT FOLDER

In FOLDER, the file `asleep` is there while it sleeps; `refuse-sleep` and `refuse-wake` make it answer 500.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
SOUND = {"choices": [{"logprobs": {"token_logprobs": [-0.1]}}]}


class Handler(BaseHTTPRequestHandler):
    """Answers what the platform asks of an engine."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Health and metrics."""
        self.answer(200, {})

    def do_POST(self) -> None:
        """Probes, sleep and wake."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        asleep, status = FOLDER / "asleep", 200
        if self.path in ("/v1/trimtab/sleep", "/v1/trimtab/wake"):
            verb = self.path.rpartition("/")[2]
            if (FOLDER / f"refuse-{verb}").exists():
                status = 500
            elif verb == "sleep":
                asleep.touch()
            else:
                asleep.unlink(missing_ok=True)
        self.answer(status, SOUND)

    def answer(self, status: int, body: object) -> None:
        """Send JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


(FOLDER / "asleep").unlink(missing_ok=True)
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
