"""Every error class of the platform is answered with a fitting status and its reason, in both error forms."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.error_status import status_of
from serve.gateway.responses import error_response
from store.transfer.row_files import Unreadable
from trimtab.api import problems

ROOT = Path(__file__).resolve().parents[2]
REASON = "the reason that it has"
# Raised where the platform's client runs, never in the platform.
OF_THE_CLIENT = {"ApiError", "PlatformUnreachable"}
VALUES: dict[str, Any] = {
    "int": 7,
    "list[str]": [REASON],
    "dict[str, Any]": {"message": REASON},
    "dict[str, object]": {"prompt": Unreadable(REASON)},
}
# Roots of trees: nothing raises them.
ROOTS = {"ServeError"}


def classes() -> Iterator[tuple[str, str, list[str]]]:
    """Module, name and bases of every class, read from the sources: some modules import vLLM."""
    for package in ("serve", "store", "align", "trimtab"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    yield module, node.name, [ast.unparse(base) for base in node.bases]


def error_classes() -> list[tuple[str, str]]:
    found, known = (
        {},
        {n for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, BaseException)},
    )
    everything = list(classes())
    for _ in range(6):  # deeper than any tree
        for module, name, bases in everything:
            if known & set(bases):
                found[name] = module
                known.add(name)
    return sorted(
        (module, name) for name, module in found.items() if name[0] != "_" and name not in OF_THE_CLIENT
    )


ERRORS = error_classes()


def make(module: str, name: str) -> Exception:
    kind = getattr(importlib.import_module(module), name)
    arguments = {}
    own = "__init__" in {method for base in kind.__mro__[:-3] for method in vars(base)}
    for parameter in inspect.signature(kind).parameters.values() if own else ():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            arguments[parameter.name] = VALUES.get(str(parameter.annotation), REASON)
    if "status" in arguments:
        arguments["status"] = 418
    made = kind(**arguments) if arguments else kind(REASON)
    assert isinstance(made, Exception)
    return made


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    problems.install(app)

    async def fail(module: str, name: str) -> None:
        raise make(module, name)

    app.add_api_route("/api/{module}/{name}", fail)
    app.add_api_route("/v1/{module}/{name}", fail)
    return TestClient(app, raise_server_exceptions=False)


def test_the_walk_finds_the_errors() -> None:
    names = {name for _, name in ERRORS}
    assert names >= {
        "ParityFailed",
        "DrainTimeout",
        "EngineFailed",
        "ProcessFailed",
        "StreamBroken",
        "BreaksOff",
    }
    assert names >= {"MergeError", "PlanError", "Conflict", "PathRefused", "TrainingFailed"}


@pytest.mark.parametrize(("module", "name"), ERRORS)
def test_every_error_has_its_status_and_reason(module: str, name: str, client: TestClient) -> None:
    answer = client.get(f"/api/{module}/{name}")
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert answer.status_code >= 400
    assert answer.status_code != 500 or name in ROOTS
    assert REASON in body["detail"]


@pytest.mark.parametrize(("module", "name"), ERRORS)
def test_every_error_has_openais_form_below_v1(module: str, name: str, client: TestClient) -> None:
    answer = client.get(f"/v1/{module}/{name}")
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert REASON in error["message"]
    assert answer.status_code == client.get(f"/api/{module}/{name}").status_code
    assert error["type"] != "server_error" or answer.status_code >= 500


def test_retryable_error_has_a_retry_after(client: TestClient) -> None:
    for name, status in {"EngineUnavailable": 503, "ProcessFailed": 503, "DrainTimeout": 409}.items():
        for form in ("api", "v1"):
            answer = client.get(f"/{form}/serve.errors/{name}")
            assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (status, True)
    assert client.get("/api/serve.errors/ParityFailed").json()["field"] == "adapter"


def test_unexpected_error_hides_its_text(client: TestClient) -> None:
    assert status_of(KeyError("secret")) is None
    answer = error_response(KeyError("secret"))
    assert answer.status_code == 500
    assert b"secret" not in answer.body
    assert b"internal_error" in answer.body
