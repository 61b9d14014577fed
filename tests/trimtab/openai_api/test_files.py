"""Files of OpenAI's API, as its own client sends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from store.accounts import keys
from store.datasets import new_rows, snapshots
from store.db.redaction import redactor
from store.maintenance import verify
from store.rollout import runs
from store.training_data import demonstrations, pairs, uploaded_files
from tests.trimtab.openai_api.conftest import jsonl, openai_client, preferences, send, talks
from trimtab.api.openai import upload
from trimtab.erasure import delete_erased_files
from trimtab.platform import Platform


def refused(gpt: openai.OpenAI, data: bytes, status: int = 400, **more: Any) -> dict[str, Any]:
    with pytest.raises(openai.APIStatusError) as caught:
        gpt.files.create(**{"file": ("rows.jsonl", data), "purpose": "fine-tune"} | more)
    assert caught.value.status_code == status, caught.value.body
    body = caught.value.body
    assert isinstance(body, dict)
    return body


def test_a_file_is_stored_listed_read_and_deleted(gpt: openai.OpenAI, platform: Platform) -> None:
    rows = talks(3)
    file = gpt.files.create(file=("answers.jsonl", jsonl([*rows, rows[0]])), purpose="fine-tune")
    assert (file.object, file.filename, file.purpose, file.status) == (
        "file",
        "answers.jsonl",
        "fine-tune",
        "processed",
    )
    assert file.bytes == len(jsonl([*rows, rows[0]]))
    assert gpt.files.retrieve(file.id) == file
    assert list(gpt.files.list()) == [file]
    read = [json.loads(line) for line in gpt.files.content(file.id).text.splitlines()]
    assert read == rows, "without the row that occurs twice"
    assert verify.verify(platform.db) == []
    gone = gpt.files.delete(file.id)
    assert (gone.id, gone.deleted) == (file.id, True)
    assert list(gpt.files.list()) == []
    assert demonstrations.stats(platform.db)["total"] == 0
    for ask in (gpt.files.retrieve, gpt.files.content, gpt.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(file.id)
        assert caught.value.param == "id"


def test_a_start_deletes_what_the_deletion_of_a_file_left_on_the_disk(
    gpt: openai.OpenAI, platform: Platform
) -> None:
    db, paths = platform.db, platform.paths
    kept = snapshots.build_of_file(db, paths.snapshots, send(gpt, talks(3, "Kept. ")), "sft")
    file = send(gpt, talks(3))
    made = snapshots.build_of_file(db, paths.snapshots, file, "sft")
    run = runs.create(db, "sft", "assistant")
    db.read().execute("update runs set snapshot = $1, state = 'done' where id = $2", [made.hash, run.id])
    rows = paths.run(run.id) / "train.parquet"
    rows.parent.mkdir(parents=True)
    rows.write_bytes(b"rows")
    uploaded_files.delete(db, file)  # and killed before the files went
    assert (Path(made.directory) / "train.parquet").exists()
    delete_erased_files(db, paths)  # as a start does
    assert not (Path(made.directory) / "train.parquet").exists()
    assert not rows.exists()
    assert (Path(kept.directory) / "train.parquet").exists()


def test_pairs_are_written_again_as_they_were_sent(gpt: openai.OpenAI, platform: Platform) -> None:
    rows = preferences(2)
    file = send(gpt, rows)
    assert [json.loads(line) for line in gpt.files.content(file).text.splitlines()] == rows
    assert pairs.stats(platform.db)["total"] == 2


def test_rows_of_a_file_are_for_its_jobs_alone(gpt: openai.OpenAI, platform: Platform) -> None:
    first, second = send(gpt, talks(3)), send(gpt, talks(3))
    assert new_rows.count_all(platform.db, "sft", "assistant") == 0
    assert demonstrations.stats(platform.db)["by_deployment"] == {first: 3, second: 3}


def test_files_are_listed_page_by_page(gpt: openai.OpenAI) -> None:
    ids = [send(gpt, talks(1, f"{n} ")) for n in range(3)]
    first = gpt.files.list(limit=2)
    assert ([file.id for file in first.data], first.has_more) == ([ids[2], ids[1]], True)
    assert [file.id for file in gpt.files.list(limit=1)] == ids[::-1], "its client asks for the other pages"
    assert [file.id for file in gpt.files.list(order="asc", after=ids[0])] == ids[1:]
    assert list(gpt.files.list(purpose="batch")) == []
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.files.list(limit=0)
    assert caught.value.param == "limit"


def spoilt(n: int, row: Any, rows: list[dict[str, Any]]) -> bytes:
    return jsonl([*rows[:n], row, *rows[n:]])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (spoilt(2, {"messages": talks(1)[0]["messages"][:2]}, talks(3)), ("line 3: ", "messages")),
        (
            spoilt(1, {"messages": [{"role": "poet", "content": "x"}, *talks(1)[0]["messages"]]}, talks(3)),
            ("line 2: ", "messages[0].role"),
        ),
        (
            spoilt(
                1,
                {**preferences(1)[0], "preferred_output": [{"role": "user", "content": "x"}]},
                preferences(2),
            ),
            ("line 2: ", "preferred_output"),
        ),
        (
            spoilt(1, {**preferences(1)[0], "input": {"messages": [{"role": "user", "content": 3}]}}, []),
            ("line 1: ", "input.messages[0].content"),
        ),
        (spoilt(2, preferences(1)[0], talks(3)), ("line 3: ", "input", "rows of one kind")),
        (spoilt(2, talks(1)[0], preferences(3)), ("line 3: ", "messages", "rows of one kind")),
        (spoilt(0, [1], []), ("line 1: ", "an object")),
        (spoilt(0, {"text": "x"}, []), ("line 1: ", "messages (supervised)", "non_preferred_output (dpo)")),
        (jsonl(talks(1)) + b"\n\n{not json\n", ("line 4: ", "JSON")),
        (jsonl(talks(1)) + b"\xff\n", ("line 2: ", "UTF-8")),
        (b"", ("at least one row",)),
        (b"\n \n", ("at least one row",)),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(
    gpt: openai.OpenAI, platform: Platform, data: bytes, said: tuple[str, ...]
) -> None:
    body = refused(gpt, data)
    assert (body["type"], body["param"]) == ("invalid_request_error", "file")
    assert all(text in body["message"] for text in said), body["message"]
    assert list(gpt.files.list()) == []
    assert demonstrations.stats(platform.db)["total"] + pairs.stats(platform.db)["total"] == 0
    assert list(platform.paths.scratch.iterdir()) == []


def test_a_form_that_is_wrong_is_refused(
    gpt: openai.OpenAI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(gpt, jsonl(talks(1)), purpose="batch")["param"] == "purpose"
    later = {"anchor": "created_at", "seconds": 3600}
    assert refused(gpt, jsonl(talks(1)), expires_after=later)["code"] == "unknown_parameter"
    answer = client.post("/v1/files", json={"purpose": "fine-tune"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    assert refused(gpt, jsonl(talks(1)), file=("x" * 300, jsonl(talks(1))))["param"] == "file"
    monkeypatch.setattr(upload, "MAX_FILE", 100)
    assert refused(gpt, jsonl(talks(9)), 413)["code"] == "file_too_large"
    monkeypatch.setattr(upload, "_MAX_FORM", 100)
    assert refused(gpt, jsonl(talks(9)), 413)["code"] == "file_too_large"
    assert list(gpt.files.list()) == []


def test_files_are_for_operators_alone(client: TestClient, platform: Platform) -> None:
    _, chat = keys.create(platform.db, "reader", ("chat",))
    _, ops = keys.create(platform.db, "trainer", ("ops",))
    with pytest.raises(openai.PermissionDeniedError) as denied:
        openai_client(client, chat).files.list()
    assert denied.value.type == "permission_error"
    with pytest.raises(openai.AuthenticationError):
        openai_client(client, "wrong").files.list()
    assert list(openai_client(client, ops).files.list()) == []


def test_what_is_private_is_replaced_before_it_is_stored(gpt: openai.OpenAI, platform: Platform) -> None:
    platform.db.redact = redactor(["email"], "US")
    file = send(gpt, talks(1, "Write to ada@example.com. "))
    assert "Write to [email]. Question 0" in gpt.files.content(file).text


def test_an_upload_that_a_crash_cut_short_is_taken_back(
    gpt: openai.OpenAI, platform: Platform, tmp_path: Path
) -> None:
    file = send(gpt, talks(2))
    platform.db.read().execute("update uploaded_files set status = 'importing'")
    uploaded_files.delete_unfinished(platform.db)
    assert list(gpt.files.list()) == []
    assert file not in demonstrations.stats(platform.db)["by_deployment"]
