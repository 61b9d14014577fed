"""HTTP as other programs speak it: HTTP/1.0, HEAD, compressed bodies, other origins, and each path's form of errors."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from store.accounts import keys, users
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings, ServerSettings
from trimtab.config.settings import Settings
from trimtab.config.training_sections import ScheduleSettings
from trimtab.platform import Platform
from trimtab.web.http10 import Protocol

URL = "http://127.0.0.1:7860"
PAGE = "https://app.example"
HERE = ("127.0.0.1", 5000)


def make(data: Path, **server: Any) -> Platform:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    return build_platform(Settings(data=data, engines=engines, server=ServerSettings(**server)), URL)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a platform in single-user mode that lets the pages of one origin in."""
    platform = make(tmp_path_factory.mktemp("here") / "data", cors_origins=[PAGE])
    with TestClient(build_app(platform), base_url=URL, client=HERE) as client:
        yield client


def openai_error(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return dict(error)


# ---- forms of errors


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/chat/completions", "/api/status"])
@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}])
def test_refusals_of_single_user_mode_have_the_form_of_the_path(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    response = client.get(path, headers=headers)
    if path.startswith("/api"):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.status_code == 403
    else:
        error = openai_error(response, 403)
        assert (error["code"], error["type"]) == ("forbidden", "permission_error")


def test_wrong_method_under_v1_is_answered_in_openais_form(client: TestClient) -> None:
    response = client.post("/v1/models", json={})
    assert openai_error(response, 405)["code"] == "method_not_allowed"
    assert "GET" in response.headers["allow"]
    openai_error(client.get("/v1/chat/completions"), 405)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "base URL ends in /v1"),
        ("/completions", "base URL ends in /v1"),
        ("/models", "base URL ends in /v1"),
        ("/v1/v1/chat/completions", "holds /v1 twice"),
        ("/v1/embeddings", "Accepted: /v1/chat/completions"),
        ("/v1", "Accepted: /v1/chat/completions"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_wrong_path_is_answered_in_openais_form(
    client: TestClient, method: str, path: str, hint: str
) -> None:
    assert hint in openai_error(client.request(method, path), 404)["message"]


def test_path_without_v1_is_named_to_strangers_too(tmp_path: Path) -> None:
    platform = make(tmp_path / "data")
    with TestClient(build_app(platform), base_url=URL, client=HERE) as client:
        users.create(platform.db, "ada", ["ops"], "correct horse")
        platform.authenticator.drop_cached()
        assert "/v1" in openai_error(client.post("/chat/completions", json={}), 404)["message"]


# ---- methods and encodings


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models"])
def test_head_is_get_without_a_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]


def test_compressed_body_is_read(client: TestClient) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    done = client.post("/api/pairs", content=gzip.compress(json.dumps([row]).encode()), headers=headers)
    assert (done.status_code, done.json()["accepted"]) == (200, 1)
    body = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}
    answer = client.post(
        "/v1/chat/completions", content=gzip.compress(json.dumps(body).encode()), headers=headers
    )
    assert openai_error(answer, 404)["param"] == "model"


@pytest.mark.parametrize(("encoding", "status"), [("br", 415), ("gzip", 400)])
def test_unknown_or_damaged_encoding_names_the_header(client: TestClient, encoding: str, status: int) -> None:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    openai = client.post("/v1/chat/completions", content=b"{}", headers=headers)
    assert openai_error(openai, status)["param"] == "Content-Encoding"
    ours = client.post("/api/runs", content=b"{}", headers=headers)
    assert (ours.status_code, ours.json()["field"]) == (status, "Content-Encoding")


def test_small_body_that_decompresses_to_much_is_refused(client: TestClient) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    bomb = gzip.compress(bytes(100 * 2**20))
    assert openai_error(client.post("/v1/chat/completions", content=bomb, headers=headers), 413)
    assert client.post("/api/runs", content=bomb, headers=headers).status_code == 413


# ---- other origins


def test_preflight_of_a_listed_origin_is_answered(client: TestClient) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for path in ("/v1/chat/completions", "/api/status"):
        response = client.options(path, headers={"origin": PAGE, **asked})
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in response.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in response.headers
    assert client.options("/v1/models", headers={"origin": "http://evil.example", **asked}).status_code == 403


def test_page_of_a_listed_origin_needs_a_key(tmp_path: Path) -> None:
    platform = make(tmp_path / "data", cors_origins=[PAGE])
    with TestClient(build_app(platform), base_url=URL, client=HERE) as client:
        assert client.get("/v1/models").status_code == 200, "this machine needs no key"
        assert client.get("/v1/models", headers={"origin": PAGE}).status_code == 401
        _, secret = keys.create(platform.db, "page", ["chat"])
        platform.authenticator.drop_cached()
        with_key = {"origin": PAGE, "authorization": f"Bearer {secret}"}
        answer = client.get("/v1/models", headers=with_key)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert client.get("/", headers=with_key).status_code == 200, "the screens have no CORS"
        assert "access-control-allow-origin" not in client.get("/", headers=with_key).headers


def test_cookie_of_another_origin_counts_for_nothing(tmp_path: Path) -> None:
    platform = make(tmp_path / "data", cors_origins=["*"])
    users.create(platform.db, "ada", ["ops"], "correct horse")
    cookie = {"cookie": f"trimtab_session={users.start_session(platform.db, 'ada')}"}
    with TestClient(build_app(platform), base_url=URL, client=HERE) as client:
        assert client.get("/api/status", headers=cookie).status_code == 200
        assert client.get("/api/status", headers={"origin": PAGE, **cookie}).status_code == 401


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://*.example", ""])
def test_setting_that_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin; accepted: SCHEME"):
        ServerSettings(cors_origins=[origin])


# ---- the schedule's setting


@pytest.mark.parametrize("cron", ["0 3 * *", "0 0 3 * * *", "@daily", ""])
def test_cron_has_five_fields(cron: str) -> None:
    with pytest.raises(ValidationError, match="accepted: five"):
        ScheduleSettings(cron=cron)
    assert ScheduleSettings(cron="0 3 * * *").cron


# ---- HTTP/1.0


async def _pieces() -> AsyncIterator[bytes]:
    for piece in (b"data: one\n\n", b"", b"data: two\n\n"):
        yield piece


async def _stream(request: Request) -> Response:
    return StreamingResponse(_pieces(), media_type="text/event-stream")


async def _whole(request: Request) -> Response:
    return JSONResponse({"ok": True})


async def _asked(path: str, version: str, count: int = 1) -> bytes:
    """Return every byte that comes back until the connection closes."""
    config = uvicorn.Config(
        Starlette(routes=[Route("/stream", _stream), Route("/whole", _whole)]),
        port=0,
        http=Protocol,
        lifespan="off",
        log_level="warning",
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    last = "connection: close\r\n" if version == "HTTP/1.1" else ""
    for n in range(count):
        end = last if n == count - 1 else ""
        writer.write(f"GET {path} {version}\r\nhost: localhost\r\n{end}\r\n".encode())
    data = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    server.should_exit = True
    await serving
    return data


def test_stream_of_http10_has_no_chunks() -> None:
    head, _, body = asyncio.run(_asked("/stream", "HTTP/1.0")).partition(b"\r\n\r\n")
    assert body == b"data: one\n\ndata: two\n\n"
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()


def test_whole_answer_of_http10_has_its_length() -> None:
    head, _, body = asyncio.run(_asked("/whole", "HTTP/1.0")).partition(b"\r\n\r\n")
    assert body == b'{"ok":true}'
    assert b"content-length: 11" in head.lower()


def test_stream_of_http11_is_chunked() -> None:
    data = asyncio.run(_asked("/stream", "HTTP/1.1", count=2))
    assert data.count(b"transfer-encoding: chunked") == 2
    assert data.endswith(b"0\r\n\r\n")
