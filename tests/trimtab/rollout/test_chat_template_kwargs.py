"""Arguments of the chat template that a release fixes: from the request that makes it to the run that goes on from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from align.run_directory import RunDirectory
from store.errors import Invalid
from store.rollout import deployments, releases, runs
from store.training_data import pairs
from tests.support.templates import SWITCHED
from tests.trimtab.conftest import BASE, problem
from trimtab import loop
from trimtab.config.serving_sections import DeploymentSettings
from trimtab.platform import Platform

OFF = {"enable_thinking": False}


def made(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/releases", json={"deployment": "assistant", **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_release_fixes_them_and_the_next_inherits_them(client: TestClient, platform: Platform) -> None:
    first = made(client, chat_template_kwargs=OFF, sampling={"temperature": 0})
    assert (first["chat_template_kwargs"], first["sampling"]) == (OFF, {"temperature": 0})
    assert client.get(f"/api/releases/{first['name']}").json()["chat_template_kwargs"] == OFF
    deployments.promote(platform.db, "assistant", "ada", release=first["id"])
    second = made(client, sampling={"temperature": 1})
    assert (second["chat_template_kwargs"], second["inherited"]) == (OFF, ["chat_template_kwargs"])
    for nothing in (None, "none", {}):
        assert made(client, chat_template_kwargs=nothing)["chat_template_kwargs"] == {}
    within = made(client, sampling={"top_p": 1, "chat_template_kwargs": {"style": "dry"}})
    assert (within["chat_template_kwargs"], within["sampling"]) == ({"style": "dry"}, {"top_p": 1})


def test_models_say_what_their_release_fixes(client: TestClient) -> None:
    name = made(client, chat_template_kwargs=OFF)["name"]
    assert client.get(f"/v1/models/{name}").json()["chat_template_kwargs"] == OFF
    assert "chat_template_kwargs" not in client.get("/v1/models/assistant").json()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([1], "chat_template_kwargs"),
        ("thinking", "chat_template_kwargs"),
        ({"tools": []}, "chat_template_kwargs.tools"),
        ({"enable_thinking": None}, "chat_template_kwargs.enable_thinking"),
        ({"style": {"tone": [None]}}, "chat_template_kwargs.style"),
    ],
)
def test_what_no_release_can_fix_is_refused_by_name(client: TestClient, given: Any, field: str) -> None:
    before = client.get("/api/releases").json()
    answer = client.post("/api/releases", json={"deployment": "assistant", "chat_template_kwargs": given})
    assert field in str(problem(answer, 422))
    assert client.get("/api/releases").json() == before


def test_keys_that_the_template_does_not_read_are_refused_with_those_that_it_reads(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "chat_template.jinja").write_text(SWITCHED)
    monkeypatch.setattr(platform.serving, "model_path", lambda base: tmp_path)
    made(client, chat_template_kwargs={"enable_thinking": True, "style": "dry"})
    body = {"deployment": "assistant", "chat_template_kwargs": {"enable_thinkin": False}}
    refused = problem(client.post("/api/releases", json=body), 422)
    assert refused["field"] == "chat_template_kwargs.enable_thinkin"
    assert refused["accepted"] == "enable_thinking, style"


def test_settings_refuse_what_no_release_can_fix() -> None:
    with pytest.raises(ValueError, match=r"chat_template_kwargs\.tools"):
        DeploymentSettings(sampling={"chat_template_kwargs": {"tools": []}})


def test_the_store_refuses_what_no_release_can_fix(platform: Platform) -> None:
    with pytest.raises(Invalid, match="chat_template_kwargs"):
        releases.create(platform.db, "assistant", BASE, sampling={"chat_template_kwargs": "off"})


def test_each_row_of_a_run_has_those_of_the_release_that_answered(platform: Platform) -> None:
    fixed = {"temperature": 0, "chat_template_kwargs": OFF}
    off = releases.create(platform.db, "assistant", BASE, sampling=fixed)
    plain = deployments.get(platform.db, "assistant").stable
    deployments.promote(platform.db, "assistant", "ada", release=off.id)
    for name, release in (("off", off.id), ("plain", plain), ("base", ""), ("unknown", None)):
        pairs.import_rows(platform.db, [{"prompt": f"{name}?", "chosen": name, "rejected": "no"}], "test")
        with platform.db.atomic() as cursor:
            cursor.execute(
                "update pairs set release = $release where id = (select id from pairs order by seq desc limit 1)",
                {"release": release},
            )
    run = runs.create(platform.db, "dpo", "assistant")
    asyncio.run(loop.take_snapshot(platform.loop, runs.move(platform.db, run.id, "snapshot")))
    directory = RunDirectory(platform.paths.run(run.id))
    assert directory.spec().chat_template_kwargs == OFF
    rows = [row for path in (directory.train, directory.heldout) for row in pq.read_table(path).to_pylist()]
    found = {row["chosen"][0]["content"]: json.loads(row["chat_template_kwargs"] or "null") for row in rows}
    assert found == {"off": OFF, "plain": {}, "base": {}, "unknown": None}
