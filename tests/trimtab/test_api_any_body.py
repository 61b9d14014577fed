"""Whatever a JSON body of `/api` holds, the answer is the client's fault with a field, never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import chdir
from typing import Any

import pytest
from starlette.testclient import TestClient

from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings

URL = "http://127.0.0.1:7860"
HALF = "\ud83d"
ODD = [HALF, "\0", float("nan"), float("inf"), 10**30, "x" * 100_000, [HALF], {HALF: HALF}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    folder = tmp_path_factory.mktemp("platform")
    data = folder / "data"
    platform = build_platform(Settings(data=data, engines=engines), URL)
    key = {"Authorization": f"Bearer {platform.key}"}  # some of what is tried makes users
    app = build_app(platform)
    # a backup to a relative path is one of the requests: it belongs into the test's folder
    with chdir(folder), TestClient(app, URL, raise_server_exceptions=False, headers=key) as client:
        yield client


def post(client: TestClient, path: str, body: Any) -> Any:
    return client.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})


def sample(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return a value of a schema, as far as it takes to reach what checks one field."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], schemas)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "string":
            return schema.get("const", "assistant")
        case "array":
            return [sample(schema.get("items", {}), schemas)]
        case "object":
            fields = schema.get("properties", {})
            return {name: sample(field, schemas) for name, field in fields.items()}
        case "integer" | "number":
            return 1
    return False


def test_no_value_of_a_field_makes_the_api_fail(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    schemas = document["components"]["schemas"]
    tried = 0
    for path, operations in document["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        whole = sample(content.get("application/json", {}).get("schema", {}), schemas)
        if not isinstance(whole, dict):
            continue
        place = path.replace("{noun}", "pairs").replace("{name}", "assistant")
        for odd in ODD:
            changed = [{**whole, field: odd} for field in whole] + [{field: odd} for field in whole]
            for body in [*changed, {**whole, HALF: odd}, odd]:
                response = post(client, place, body)
                assert response.status_code != 401
                assert response.status_code in range(200, 500) or response.status_code == 503, (
                    place, body, response.text,
                )  # fmt: skip
                tried += 1
    assert tried > 500


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/releases", {"deployment": "assistant" + HALF}, "deployment"),
        ("/api/releases", {"deployment": "assistant", "sampling": {HALF: 1}}, "sampling"),
        ("/api/runs", {"method": "dpo", "params": {HALF: 1}}, "params"),
        ("/api/runs", {"method": "dpo", "params": {"target_modules": ["q", HALF]}}, "params"),
        ("/api/evals", {"release": HALF}, "release"),
        ("/api/backup", {"file": HALF}, "file"),
        ("/api/keys", {"name": HALF}, "name"),
        ("/api/comparisons", {"messages": [{"role": "user", "content": HALF}]}, "messages"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_with_its_field(
    client: TestClient, path: str, body: Any, field: str
) -> None:
    response = post(client, path, body)
    problem = response.json()
    assert (response.status_code, problem["field"].split(".")[0]) == (422, field)
    assert "UTF-8" in problem["accepted"]


def test_refused_name_of_a_field_is_shown_as_its_escape(client: TestClient) -> None:
    response = post(client, "/api/releases", {"deployment": "assistant", "a" + HALF: 1})
    assert response.status_code == 422
    assert "There is no field a\\ud83d" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/api/backup", "/api/exports/pairs"])
def test_path_with_a_nul_character_is_refused(client: TestClient, path: str) -> None:
    response = post(client, path, {"file": "/tmp/a\0b"})
    assert (response.status_code, response.json()["field"]) == (422, "file")


def test_path_of_refused_rows_with_a_nul_character_is_refused(client: TestClient) -> None:
    response = client.post("/api/imports/pairs?rejects=/tmp/a%00b", content=b"{}")
    assert (response.status_code, response.json()["field"]) == (422, "rejects")


def test_good_rows_beside_half_a_surrogate_pair_are_taken(client: TestClient) -> None:
    rows = [
        {"prompt": "a", "chosen": "b" + HALF, "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ]
    done = post(client, "/api/pairs", {"rows": rows}).json()
    assert (done["accepted"], [row["row"] for row in done["rejected"]]) == (1, [1])
