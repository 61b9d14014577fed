"""OpenAI's own client, before the app in process."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from store.training_data.uploaded_files import FINE_TUNE
from tests.trimtab.conftest import URL


def openai_client(client: TestClient, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{URL}/v1", http_client=client, max_retries=0)


@pytest.fixture
def gpt(client: TestClient) -> openai.OpenAI:
    return openai_client(client)


def talks(count: int, mark: str = "") -> list[dict[str, Any]]:
    """Rows to learn answers from."""
    return [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"{mark}Question {n}"},
                {"role": "assistant", "content": f"Answer {n}"},
            ]
        }
        for n in range(count)
    ]


def preferences(count: int, mark: str = "") -> list[dict[str, Any]]:
    """Rows to learn a preference from."""
    return [
        {
            "input": {"messages": [{"role": "user", "content": f"{mark}Question {n}"}]},
            "preferred_output": [{"role": "assistant", "content": f"Good {n}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"Bad {n}"}],
        }
        for n in range(count)
    ]


def jsonl(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def send(gpt: openai.OpenAI, rows: Iterable[Any], name: str = "rows.jsonl") -> str:
    """Upload rows and return the file's id."""
    return gpt.files.create(file=(name, jsonl(rows)), purpose=FINE_TUNE).id
