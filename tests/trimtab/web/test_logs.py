"""What requests must not leave in the logs, and what the page on security names."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from store.accounts import keys, users
from trimtab.platform import Platform

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "security.md"


def test_no_key_password_or_prompt_is_logged(
    platform: Platform, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    users.create(platform.db, "ada", ["ops"], "the-password-of-ada")
    secret = keys.create(platform.db, "front-end", ["ops"])[1]
    caplog.set_level(logging.DEBUG)
    bearer = {"Authorization": f"Bearer {secret}"}
    chat = {"model": "assistant", "messages": [{"role": "user", "content": "a-private-question"}]}
    statuses = [
        client.post("/login", data={"name": "ada", "password": "a-wrong-password"}).status_code,
        client.post("/v1/chat/completions", json=chat, headers=bearer).status_code,
        client.post("/v1/chat/completions", json=chat, headers={"Authorization": "Bearer a-guessed-key"}).status_code,
        client.post("/v1/chat/completions", json=chat | {"temperature": "a-private-question"}, headers=bearer).status_code,
        client.get("/api/rows/pairs", params={"text": "a-private-question"}, headers=bearer).status_code,
        client.post("/api/imports", content=b"a-private-question", headers=bearer).status_code,
        client.post("/login", data={"name": "ada", "password": "the-password-of-ada"}, follow_redirects=False).status_code,
    ]  # fmt: skip
    assert statuses[0] == statuses[2] == 401
    assert statuses[-1] == 303
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    for word in ("the-password-of-ada", "a-wrong-password", secret, "a-guessed-key", "a-private-question"):
        assert word not in ours


def test_what_a_client_sends_makes_no_line_of_its_own_in_the_log(
    platform: Platform, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    users.create(platform.db, "ada", ["ops"], "the-password-of-ada")
    caplog.set_level(logging.DEBUG)
    forged = "x\n2026-01-01 00:00:00,000 I trimtab.audit: forged"
    client.post("/login", data={"name": forged, "password": "wrong"})
    client.post(
        "/v1/chat/completions", json={"model": forged, "messages": [{"role": "user", "content": "Hi"}]}
    )
    client.get("/api/releases/" + forged.replace("\n", "%0A"))
    lines = [record.getMessage() for record in caplog.records]
    assert not [line for line in lines if "\n2026-01-01" in line]
    assert any("forged" in line for line in lines), "the wrong password is logged, on one line"


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) >= 15
    for file, name in named:
        assert re.search(rf"def {name}\b", (ROOT / file).read_text()), f"{file}::{name}"
