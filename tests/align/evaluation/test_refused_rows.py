"""Held-out rows that the served chat template refuses cost those rows alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.evaluation.suite import ChatApi, EvaluationError, run_suite

pytestmark = pytest.mark.anyio


def answer(request: httpx.Request) -> httpx.Response:
    """A platform whose template takes no system message; a token is a letter."""
    body = json.loads(request.content)
    if any(message["role"] == "system" for message in body["messages"]):
        return httpx.Response(400, json={"error": {"message": "no system message is taken"}})
    text = "".join(message["content"] + "|" for message in body["messages"])
    if body.get("continue_final_message"):
        text = text.removesuffix("|")
    ids = [ord(letter) for letter in text]
    entries = [None, *({str(i): {"logprob": -1.0}} for i in ids[1:])]
    return httpx.Response(200, json={"prompt_token_ids": ids, "prompt_logprobs": entries, "usage": {}})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def suite(tmp_path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "heldout.parquet")
    async with ChatApi("http://platform") as api:
        await api.aclose()
        api._client = httpx.AsyncClient(base_url="http://platform", transport=httpx.MockTransport(answer))
        return await run_suite(api, "assistant@2", "assistant@1", tmp_path / "heldout.parquet", "quick")


def row(n: int, role: str = "user", **more: Any) -> dict[str, Any]:
    asked = [{"role": role, "content": f"question {n}"}]
    return {"prompt": asked, "chosen": "Yes.", "rejected": "No, no.", **more}


async def test_a_refused_row_is_left_out_and_reported(tmp_path: Path) -> None:
    report = await suite(tmp_path, [row(1), row(2, "system"), row(3)])
    assert report["rows"] == 2
    assert report["refused"]["rows"] == 1
    assert "no system message is taken" in report["refused"]["examples"][0]
    assert report["measures"]["preference_accuracy"]["release"]["value"] == 1.0


async def test_a_suite_whose_every_row_is_refused_says_why(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"every row was refused: .*no system message is taken"):
        await suite(tmp_path, [row(1, "system"), row(2, "system")])


async def test_an_answer_that_was_cut_is_measured_without_its_end(tmp_path: Path) -> None:
    alike = {"chosen": "Yes.", "rejected": "None"}  # as many tokens; each costs the same
    for reason, accuracy in ((None, 0.5), ("stop", 0.5), ("length", 1.0)):
        report = await suite(tmp_path, [row(1, **alike, chosen_finish_reason=reason)])
        assert report["measures"]["preference_accuracy"]["release"]["value"] == accuracy
