"""Two chat endpoints in alternate waves: the same requests to one, then to the other, many times.

    python -m bench.serving.waves URL_A MODEL_A URL_B MODEL_B --streams 64 --waves 100 [--key K] [--max-tokens 16]

A wave is one request a connection, all sent in one instant, and lasts until every answer is whole: what an engine that
answers its streams in lockstep makes of a closed loop. Machines drift by more in ten seconds than a gateway costs; two
waves that follow each other drift little, and a hundred of them tell one per cent. Prints one line of JSON: seconds and
the median milliseconds to the first token of each wave, by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field

import uvloop

from bench.serving.load import Asker, request_bytes


class Wave:
    """Measurements of one wave's requests."""

    def __init__(self, wanted: int) -> None:
        self.left = wanted
        self.failed = 0
        self.first_ms: list[float] = []
        self.over = asyncio.Event()
        self.began = time.perf_counter()
        self.seconds = 0.0

    def first(self, sent: float) -> None:
        """Note the first piece of an answer to a request sent at `sent`."""
        self.first_ms.append((time.perf_counter() - sent) * 1000)

    def pieces(self, count: int) -> None:
        """Count no pieces: every answer has the same number."""

    def add(self, status: int) -> None:
        """Note an answer; status 0 means that the connection ended first."""
        self.failed += status != 200
        self.left -= 1
        if not self.left:
            self.seconds = time.perf_counter() - self.began
            self.over.set()


class Rider(Asker):
    """A connection that waits for its wave."""

    notes: Wave
    asking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def ask(self, wave: Wave) -> None:
        """Send the request as part of a wave."""
        self.notes, self.asking = wave, True
        self.send()

    def on_message_complete(self) -> None:
        """Note the answer."""
        self.asking = False
        self.notes.add(self.parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        """Note a missing answer."""
        if self.asking:
            self.asking = False
            self.notes.add(0)


@dataclass
class Side:
    """One endpoint and its connections."""

    host: str
    port: int
    request: bytes
    riders: list[Rider] = field(default_factory=list)

    async def wave(self, streams: int) -> Wave:
        """Run one wave over kept connections; reopen those that the server closed."""
        loop = asyncio.get_running_loop()
        self.riders = [rider for rider in self.riders if not rider.transport.is_closing()]
        while len(self.riders) < streams:
            _, rider = await loop.create_connection(lambda: Rider(self.request), self.host, self.port)
            self.riders.append(rider)
        wave = Wave(streams)
        for rider in self.riders:
            rider.ask(wave)
        await wave.over.wait()
        return wave


async def alternate(sides: list[Side], streams: int, waves: int) -> list[dict[str, list[float]]]:
    """Run `waves` waves of each side in turns; return seconds and median first-token ms per wave."""
    rows: list[dict[str, list[float]]] = [{"seconds": [], "first_ms": []} for _ in sides]
    for number in range(-1, waves):
        # whoever goes second meets what the other left behind: they take turns at that, too
        for at in (0, 1) if number % 2 else (1, 0):
            wave = await sides[at].wave(streams)
            if wave.failed:
                raise SystemExit(
                    f"{wave.failed} of {streams} answers of {sides[at].host}:{sides[at].port} failed"
                )
            if number >= 0:  # the first wave of each warms
                rows[at]["seconds"].append(round(wave.seconds, 5))
                rows[at]["first_ms"].append(round(statistics.median(wave.first_ms), 3))
    return rows


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("url_a", "model_a", "url_b", "model_b"):
        parser.add_argument(name)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--waves", type=int, default=10)
    parser.add_argument("--key", default="none")
    parser.add_argument("--max-tokens", type=int, default=16)
    args = parser.parse_args()
    asked = ((args.url_a, args.model_a), (args.url_b, args.model_b))
    sides = [Side(*request_bytes(url, model, True, args.key, args.max_tokens)) for url, model in asked]
    print(json.dumps(uvloop.run(alternate(sides, args.streams, args.waves))))


if __name__ == "__main__":
    main()
