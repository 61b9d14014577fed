"""Single-user mode keeps other web pages away: Host and Origin."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from trimtab.web.origin_check import SameMachineOnly

OURS = "127.0.0.1:7860"


def client(active: bool = True, also: tuple[str, ...] = ()) -> TestClient:
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok"), methods=["GET", "POST"])])
    return TestClient(SameMachineOnly(app, lambda: active, also))


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (OURS, None, 200),
        ("localhost:7860", None, 200),
        ("[::1]:7860", None, 200),
        (OURS, f"http://{OURS}", 200),
        ("evil.example:7860", None, 403),
        ("127.0.0.1.evil.example", None, 403),
        (OURS, "http://evil.example", 403),
        (OURS, "http://localhost:3000", 403),
        (OURS, "null", 403),
        ("", None, 403),
    ],
)
def test_only_this_machine(host: str, origin: str | None, status: int) -> None:
    headers = {"host": host} | ({"origin": origin} if origin else {})
    response = client().post("/", headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.headers["content-type"] == "application/problem+json"


def test_the_settings_name_further_hosts() -> None:
    assert client(also=("Trimtab.lan",)).get("/", headers={"host": "trimtab.lan:80"}).status_code == 200


def test_with_users_everybody_may_come_and_has_to_sign_in() -> None:
    assert client(active=False).get("/", headers={"host": "chat.example"}).status_code == 200
