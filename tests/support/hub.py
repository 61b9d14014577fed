"""A Hugging Face hub on loopback that serves directories: model info, file tree, files with ETag, commit and ranges.

Clients reach it through `HF_ENDPOINT`; what they send is taken by `tests.support.hub_writes`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support import hub_writes


@dataclass
class Served:
    """A repository: its directory, commit, licence, whether it is gated or private, and messages of the commits it got."""

    directory: Path
    commit: str
    licence: str | None = "apache-2.0"
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    log: list[str] = field(default_factory=list)

    def files(self) -> dict[str, Path]:
        """Return every file by its name in the repository."""
        return {
            str(path.relative_to(self.directory)): path
            for path in sorted(self.directory.rglob("*"))
            if path.is_file()
        }


class Hub:
    """The repositories, and what was asked: `requests` are `METHOD path` and the range.

    Bodies stop after `pause_after` bytes until it is None again. `status` answers every request that reads, `statuses` those
    that write, by the end of their path. New repositories are made in `root`; `objects` are large files, by SHA-256.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Served] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.tokens: set[str] = set()
        self.pause_after: int | None = None
        self.status: int | None = None
        self.statuses: dict[str, int] = {}
        self.root = Path()
        self.objects: dict[str, bytes] = {}
        self.url = ""

    def add(self, name: str, directory: Path, **more: Any) -> Served:
        """Serve a directory as the repository `name`; its commit follows from the content."""
        served = Served(directory, "", **more)
        self.repositories[name] = served
        served.commit = served.branches["main"] = hub_writes.commit_of(directory)
        return served

    def asked(self, ending: str, method: str = "GET") -> list[str | None]:
        """Return the range of each request for a path with this ending."""
        return [part for line, part in self.requests if line.startswith(method) and line.endswith(ending)]


@contextmanager
def running() -> Iterator[Hub]:
    """Serve an empty hub on a free port of loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._take()

    def do_PUT(self) -> None:
        self._take()

    def _take(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.hub.requests.append((f"{self.command} {path}", None))
        if not path.startswith("/objects/") and not self._has_token():
            return self._fault(401, None)
        status = next((code for end, code in self.hub.statuses.items() if path.endswith(end)), None)
        status, value = (status, None) if status else hub_writes.take(self.hub, path, body)
        return self._fault(status, None) if value is None else self._json(value)

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((f"{self.command} {path}", self.headers.get("Range")))
        if self.hub.status is not None:
            return self._fault(self.hub.status, None)
        api = path.startswith("/api/models/")
        rest = path.removeprefix("/api/models/") if api else path.lstrip("/")
        parts = rest.split("/")
        name, tail = "/".join(parts[:2]), parts[2:]
        served = self.hub.repositories.get(name)
        if served is None or (served.private and not self._has_token()):
            return self._fault(401, "RepoNotFound")
        if api and tail[:1] == ["tree"]:
            return self._in_revision(served, tail[1], lambda: self._json(_tree(served)))
        if api:
            revision = tail[1] if tail[:1] == ["revision"] else "main"
            return self._in_revision(served, revision, lambda: self._json(_info(name, served)))
        if tail[:1] == ["resolve"] and len(tail) >= 3:
            if served.gated and not self._has_token():
                return self._fault(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            return self._in_revision(served, tail[1], lambda: self._file(served, "/".join(tail[2:])))
        return self._fault(404, None)

    def _has_token(self) -> bool:
        given = self.headers.get("Authorization", "")
        return given.removeprefix("Bearer ") in self.hub.tokens

    def _in_revision(self, served: Served, revision: str, answer: Any) -> None:
        if revision != served.commit and revision not in served.branches:
            return self._fault(404, "RevisionNotFound", served)
        answer()
        return None

    def _file(self, served: Served, name: str) -> None:
        path = served.files().get(name)
        if path is None:
            return self._fault(404, "EntryNotFound", served)
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        start, end, status = 0, len(content), 200
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(int(last) + 1 if last else len(content), len(content)), 206
        body = content[start:end]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", served.commit)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = self.hub.pause_after
        if sent is None or len(body) <= sent:
            self.wfile.write(body)
            return
        self.wfile.write(body[:sent])
        self.wfile.flush()
        while self.hub.pause_after is not None:
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # the client has left
            self.wfile.write(body[sent:])

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fault(self, status: int, code: str | None, served: Served | None = None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if served is not None:
            self.send_header("X-Repo-Commit", served.commit)
        self.send_header("X-Error-Message", code or "no")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _info(name: str, served: Served) -> dict[str, Any]:
    tags = [f"license:{served.licence}"] if served.licence else []
    return {
        "id": name,
        "modelId": name,
        "sha": served.commit,
        "tags": tags,
        "private": served.private,
        "gated": "manual" if served.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "siblings": [
            {"rfilename": file, "size": path.stat().st_size, "blobId": _blob(path)}
            for file, path in served.files().items()
        ],
    }


def _tree(served: Served) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": file, "size": path.stat().st_size, "oid": _blob(path)}
        for file, path in served.files().items()
    ]


def _blob(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
