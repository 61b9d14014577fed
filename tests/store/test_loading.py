"""Large imports: nothing is looked up that is new, and row groups come out full, so that none is written twice."""

from __future__ import annotations

import duckdb
import pytest

from store import ingest, pairs
from store.database import LOG, Store
from store.rows import scalar

ROWS = [{"prompt": f"Q{n}", "chosen": "good", "rejected": "bad"} for n in range(500)]


def settings(db: Store) -> dict[str, str]:
    return dict(
        db.read()
        .execute(
            "select name, value from duckdb_settings() where name in ('wal_autocheckpoint', 'max_vacuum_tasks')"
        )
        .fetchall()
    )


def test_known_rows_among_new_ones_are_duplicates_batch_by_batch(
    db: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BATCH", 50)
    pairs.import_rows(db, ROWS[120:140] + ROWS[400:], "first")
    done = pairs.import_rows(db, ROWS, "second")
    assert (done.accepted, done.duplicates) == (380, 120)
    assert pairs.count(db) == 500
    counted = db.read().execute("select accepted, duplicates from imports order by id desc").fetchone()
    assert counted == (380, 120)


def test_an_import_inside_a_transaction_keeps_it_whole(db: Store) -> None:
    pairs.import_rows(db, ROWS[:10], "first")
    with db.atomic():
        assert pairs.import_rows(db, ROWS[:20], "second").accepted == 10
    assert pairs.count(db) == 20


def test_row_groups_come_out_full_and_stay_as_they_are(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "BATCH", 50)
    monkeypatch.setattr(ingest, "ROW_GROUP", 220)
    pairs.import_rows(db, ROWS, "first")
    sizes = (
        db.read()
        .execute(
            "select row_group_id, sum(count) from pragma_storage_info('pairs') "
            "where column_name = 'seq' and segment_type <> 'VALIDITY' group by row_group_id order by row_group_id"
        )
        .fetchall()
    )
    assert [int(size) for _, size in sizes] == [200, 200, 100]


def test_settings_are_as_before_once_the_last_import_ends(db: Store) -> None:
    before = settings(db)
    with db.loading():
        with db.loading():
            assert settings(db)["max_vacuum_tasks"] == "0"
        assert settings(db)["max_vacuum_tasks"] == "0"
    assert settings(db) == before == {"wal_autocheckpoint": "16.0 MiB", "max_vacuum_tasks": "100"}


def test_an_import_leaves_no_long_log_to_the_next_vote(db: Store) -> None:
    log = db.path.with_name(db.path.name + ".wal")
    with db.loading():
        with db.atomic() as cursor:
            cursor.execute("create table filler (text varchar)")
        for _ in range(8):  # one transaction of all would go past the log
            with db.atomic() as cursor:
                cursor.execute("insert into filler select sha256(i::varchar) from range(50000) r(i)")
        assert log.stat().st_size > LOG
    assert not log.exists() or log.stat().st_size < LOG
    assert scalar(db.read(), "select count(*) from filler") == 400_000


def test_a_checkpoint_waits_for_no_reader_and_no_writer(db: Store) -> None:
    reader = db.cursor()
    reader.execute("begin")
    reader.execute("select count(*) from pairs").fetchall()
    with db.atomic() as cursor:
        cursor.execute("insert into erased_items values ('a', 'b')")
        db.checkpoint()
    reader.execute("rollback")
    assert scalar(db.read(), "select count(*) from erased_items") == 1


def test_an_insert_of_a_known_row_is_refused_by_the_index(db: Store) -> None:
    pairs.import_rows(db, ROWS[:1], "first")
    value = pairs.list_page(db)[0].pair
    with pytest.raises(duckdb.ConstraintException), db.atomic() as cursor:
        pairs.insert(cursor, [value], "", "again", None)
    assert pairs.count(db) == 1
