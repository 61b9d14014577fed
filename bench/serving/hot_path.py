"""Processor time of one request in the gateway, sockets and engine left out: this tree against another commit.

    python -m bench.serving.hot_path [--against REV] [--rounds 60] [--requests 100] [--quick]

Both trees run in processes of their own and take turns of `--requests` requests, so that a busy machine hits both. Each
request is answered by a prepared answer in place of the engine; the figure is the least of a kind's rounds, the ratio
the median over the rounds. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KEY, MODEL, PIECES = "bench", "stub", 19
BUDGET = 1.05
KINDS = ("plain", "recorded", "stream")
"""A whole answer that is not recorded, one that is, and a stream of `PIECES` pieces that is."""


# ---- in a process of each tree


class Prepared:
    """In place of the client to the engine: every request gets the answer that was prepared for its kind."""

    status = 200

    def __init__(self) -> None:
        usage = {"prompt_tokens": 9, "total_tokens": 25, "completion_tokens": 16}
        head = {"id": "chatcmpl-stub", "object": "chat.completion", "created": 1, "model": MODEL}
        message = {"role": "assistant", "content": "word " * 16}
        whole = head | {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
        piece = head | {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
        self._whole = [_dump(whole)]
        self._stream = [b"data: " + _dump(piece) + b"\n\n"] * PIECES
        self._stream += [
            b"data: " + _dump(head | {"choices": [], "usage": usage}) + b"\n\n",
            b"data: [DONE]\n\n",
        ]
        self._pieces = self._whole

    async def post(self, path: str, body: bytes) -> Prepared:
        """Choose the answer."""
        self._pieces = self._stream if b'"stream":true' in body else self._whole
        return self

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield its pieces."""
        for piece in self._pieces:
            yield piece

    def release(self, answer: Prepared) -> None:
        """Take it back."""

    def close(self) -> None:
        """Close nothing."""


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@contextlib.asynccontextmanager
async def gateway(scratch: Path) -> AsyncIterator[Any]:
    """Make a gateway before a prepared engine, as the tree that is imported makes it."""
    from serve.auth import Authenticator, Principal
    from serve.engine.pool import EnginePool
    from serve.engine.spec import EngineSpec
    from serve.router import build_table
    from store.db.database import Store
    from store.rollout import deployments

    with Store.open(scratch / "bench.duckdb") as db:
        deployments.ensure(db, "assistant", MODEL)
        pool = EnginePool([EngineSpec("bench", MODEL, MODEL, url="http://127.0.0.1:1")], scratch)
        engine: Any = pool.engines()[0]
        engine.state, engine._stream = "ready", Prepared()
        auth = Authenticator(db, local_keys={KEY: Principal("bench", frozenset({"ops"}), "local key")})
        made, router, recorder = _compose(db, pool, auth, scratch)
        router.replace(build_table(db, pool.bases(), scratch))
        recorder.put = lambda turn: None  # its thread is not what is measured
        yield made


def _compose(db: Any, pool: Any, auth: Any, scratch: Path) -> tuple[Any, Any, Any]:
    try:
        from serve.build import build_serving
    except ImportError:  # before it existed
        from serve.gateway import handler
        from serve.gateway.metrics import Metrics
        from serve.gateway.recorder import Recorder
        from serve.metering.limits import Limits
        from serve.router import Router

        router, recorder = Router(), Recorder(db)
        old: Any = handler.Gateway
        return old(pool, router, auth, recorder, Limits(), Metrics()), router, recorder
    from serve.adapters.reconciler import Reconciler
    from serve.router import Router

    parts = build_serving(db, Reconciler(db, Router(), pool, scratch), auth)
    return parts.gateway, parts.router, parts.recorder


def request(kind: str) -> tuple[dict[str, Any], bytes]:
    """Return the ASGI scope and the body of a request."""
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": "Say sixteen words about the sea."}],
    }
    body |= {"store": kind != "plain", "stream": kind == "stream"}
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json")]
    path = "/v1/chat/completions"
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }, _dump(body)


async def ask(made: Any, kind: str, count: int) -> float:
    """Send `count` requests one after the other; returns microseconds of processor time per request."""
    from serve.gateway.handler import HotPath

    async def nothing(*_: Any) -> None:
        raise LookupError("the request is none of the hot path's")

    scope, body = request(kind)
    app = HotPath(nothing, made)
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    statuses: set[int] = set()

    async def send(message: Any) -> None:
        statuses.add(message.get("status", 200))

    began = time.process_time()
    for _ in range(count):
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive(left: list[Any] = left) -> Any:
            return left.pop() if left else await asyncio.shield(never)

        await app(scope, receive, send)
    spent = time.process_time() - began
    assert statuses == {200}, statuses
    return spent / count * 1e6


async def measure() -> None:
    """Answer each line of standard input, a kind and a count, with a figure."""
    with tempfile.TemporaryDirectory() as scratch:
        async with gateway(Path(scratch)) as made:
            for line in sys.stdin:
                kind, count = line.split()
                print(await ask(made, kind, int(count)), flush=True)


# ---- in the process that compares them


@contextlib.contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """Check a commit out into a directory of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = subprocess.run(
            ["git", "archive", revision], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
        yield Path(scratch)


@contextlib.contextmanager
def child(tree: Path) -> Iterator[subprocess.Popen[str]]:
    """Run this file with the packages of `tree`."""
    argv = [sys.executable, "-P", __file__, "--measure"]
    with subprocess.Popen(
        argv, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


def figure(process: subprocess.Popen[str], kind: str, count: int) -> float:
    """Have a child measure one round."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{kind} {count}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare(against: str, rounds: int, count: int) -> dict[str, Any]:
    """Return microseconds per request of both trees and the ratio of this one to the other, by kind."""
    with tree_of(against) as other, child(ROOT) as ours, child(other) as theirs:
        found: dict[str, Any] = {}
        for kind in KINDS:
            for process in (ours, theirs):
                figure(process, kind, count)  # warm-up
            pairs = []
            for n in range(rounds):
                order = (ours, theirs) if n % 2 else (theirs, ours)
                seen = {process.pid: figure(process, kind, count) for process in order}
                pairs.append((seen[ours.pid], seen[theirs.pid]))
            found[kind] = {
                "us": round(min(mine for mine, _ in pairs), 1),
                "us_against": round(min(other for _, other in pairs), 1),
                "ratio": round(statistics.median(mine / other for mine, other in pairs), 3),
                "ratio_of_least": round(min(m for m, _ in pairs) / min(o for _, o in pairs), 3),
            }
        return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="HEAD")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        asyncio.run(measure())
        return
    found = compare(args.against, 10 if args.quick else args.rounds, args.requests)
    met = all(one["ratio"] <= BUDGET for one in found.values())
    print(json.dumps({"bench": "hot_path", "against": args.against, **found, "budget": BUDGET, "met": met}))


if __name__ == "__main__":
    main()
