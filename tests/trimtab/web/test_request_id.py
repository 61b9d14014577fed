"""Ids of requests, in answers and in the log."""

from __future__ import annotations

import json
import logging

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from trimtab.web.logs import make_formatter
from trimtab.web.request_id import NameRequest, RequestIds, current

CHAT = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]}


def test_every_answer_has_an_id_and_a_client_s_own_is_kept(client: TestClient) -> None:
    answers = [
        client.get("/healthz"), client.get("/api/status"), client.get("/api/nothing"), client.get("/login"),
        client.post("/v1/chat/completions", json=CHAT), client.get("/metrics"), client.get("/"),
    ]  # fmt: skip
    found = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(found)) == len(found)
    assert all(ident.startswith("req-") for ident in found)
    own = client.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": "trace-1.2:3_4"})
    assert own.headers.get_list("x-request-id") == ["trace-1.2:3_4"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "é".encode()])
def test_an_id_that_is_not_plain_is_replaced(given: str | bytes, client: TestClient) -> None:
    answer = client.get("/healthz", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"].startswith("req-")


def lines_of(how: str, message: str) -> str:
    """What a handler writes for one record within a request whose id is `r-1`."""
    handler = logging.StreamHandler()
    handler.addFilter(NameRequest())
    handler.setFormatter(make_formatter(how))  # type: ignore[arg-type]
    written: list[str] = []

    async def show(request: Request) -> Response:
        record = logging.LogRecord("trimtab.part", logging.WARNING, __file__, 1, message, (), None)
        handler.filter(record)
        written.append(handler.format(record))
        return PlainTextResponse(current())

    app = Starlette(routes=[Route("/", show)])
    app.add_middleware(RequestIds)
    assert TestClient(app).get("/", headers={"X-Request-Id": "r-1"}).text == "r-1"
    assert current() == ""
    return written[0]


def test_log_lines_have_the_id_of_their_request() -> None:
    assert lines_of("text", "slow").endswith(" W trimtab.part [r-1]: slow")
    found = json.loads(lines_of("json", 'two\nlines "quoted"'))
    assert {key: found[key] for key in ("level", "logger", "message", "request_id")} == {
        "level": "WARNING", "logger": "trimtab.part", "message": 'two\nlines "quoted"', "request_id": "r-1",
    }  # fmt: skip
    assert "time" in found
