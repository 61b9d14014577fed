"""The blocking client: streams, threads, running loops, errors, closing."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from trimtab_client import ApiError, Client, PlatformUnreachable

SAY = [{"role": "user", "content": "say 3"}]
HOLD = [{"role": "user", "content": "hold 3"}]


def test_calls_block_and_return_json(platform_url: str) -> None:
    with Client(platform_url) as client:
        assert client.health() == {"status": "ok"}
        assert client.whoami()["roles"]
        answer = client.chat.complete("assistant", SAY)
        assert answer["choices"][0]["message"]["content"].split() == ["word"] * 3


def test_a_stream_yields_while_the_engine_still_writes(platform_url: str) -> None:
    with Client(platform_url) as client:
        stream = client.chat.stream("assistant", HOLD)
        texts = [delta.text for delta in (next(stream) for _ in range(4))]
        assert "".join(texts).split() == ["word"] * 3
        stream.close()
        assert client.health() == {"status": "ok"}


def test_an_unread_stream_ends_with_its_client(platform_url: str) -> None:
    client = Client(platform_url)
    stream = client.chat.stream("assistant", HOLD)
    next(stream)
    client.close()
    stream.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.health()
    assert not [thread for thread in threading.enumerate() if thread.name == "trimtab-client"]


def test_a_client_works_where_a_loop_runs(platform_url: str) -> None:
    async def notebook() -> object:
        with Client(platform_url) as client:
            return client.health()

    assert asyncio.run(notebook()) == {"status": "ok"}


def test_threads_share_a_client(platform_url: str) -> None:
    with Client(platform_url) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.chat.complete("assistant", SAY), range(8)))
    assert len({answer["id"] for answer in answers}) == 8


def test_errors_name_field_and_status(platform_url: str) -> None:
    with Client(platform_url) as client:
        with pytest.raises(ApiError) as refused:
            client.rollout.release("assistant@99")
        assert refused.value.status == 404
        with pytest.raises(ApiError) as refused:
            client.preferences.compare([])
        assert (refused.value.status, refused.value.field) == (422, "messages")
        with pytest.raises(ApiError) as refused:
            list(client.chat.stream("nobody", SAY))
        assert refused.value.status == 404
    with Client("http://127.0.0.1:9") as client, pytest.raises(PlatformUnreachable):
        client.status()


@pytest.mark.parametrize("pieces", ["bytes", "iterable", "file"])
def test_an_import_takes_bytes_iterables_and_files(platform_url: str, pieces: str, tmp_path: object) -> None:
    row = b'{"prompt": "%b?", "chosen": "yes", "rejected": "no"}\n'
    rows = [row % f"{pieces} {n}".encode() for n in range(3)]
    path = tmp_path / "rows.jsonl"  # type: ignore[operator]
    path.write_bytes(b"".join(rows))
    with Client(platform_url) as client, path.open("rb") as file:
        content = {"bytes": b"".join(rows), "iterable": rows, "file": file}[pieces]
        *_, last = client.data.import_file("pairs", content, deployment="assistant")
    assert last["result"]["accepted"] == 3
