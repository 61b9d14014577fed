"""Large imports: nothing is looked up that is new, and row groups come out full, so that none is written twice."""

from __future__ import annotations

import duckdb
import pytest

from store.db import database, listing
from store.db.database import LOG, Store
from store.db.rows import scalar
from store.training_data import batch_import, pairs

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
    monkeypatch.setattr(batch_import, "BATCH", 50)
    pairs.import_rows(db, ROWS[120:140] + ROWS[400:], "first")
    done = pairs.import_rows(db, ROWS, "second")
    assert (done.accepted, done.duplicates) == (380, 120)
    assert pairs.count(db) == 500
    counted = db.read().execute("select accepted, duplicates from imports order by id desc").fetchone()
    assert counted == (380, 120)


def test_import_counts_duplicate_rows_once(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_import, "BATCH", 50)
    done = pairs.import_rows(db, [row for row in ROWS[:90] for _ in range(2)] + [{}, {}], "twice")
    assert (done.accepted, done.duplicates, done.rejected_count) == (90, 90, 2)
    kept = db.read().execute("select accepted, duplicates, rejected from imports").fetchone()
    assert kept == (90, 90, 2)


def test_a_batch_of_long_rows_ends_early(db: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_import, "BATCH_CHARACTERS", 1000)
    rows = [{"prompt": f"Q{n}", "chosen": "long " * 100, "rejected": "bad"} for n in range(7)]
    told: list[int] = []
    done = pairs.import_rows(db, rows, "long", on_batch=lambda rows, *_: told.append(rows))
    assert done.accepted == 7
    assert told == [2, 4, 6, 7]


def test_prompts_are_counted_one_by_one_while_they_are_few(
    db: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs.import_rows(db, [*ROWS, ROWS[0] | {"chosen": "better"}], "first")
    assert list(pairs.stats(db).items())[:2] == [("total", 501), ("prompts", 500)]
    monkeypatch.setattr(listing, "EXACT", 500)
    assert pairs.stats(db)["prompts"] == pytest.approx(500, rel=0.1)


def test_an_import_inside_a_transaction_keeps_it_whole(db: Store) -> None:
    pairs.import_rows(db, ROWS[:10], "first")
    with db.atomic():
        assert pairs.import_rows(db, ROWS[:20], "second").accepted == 10
    assert pairs.count(db) == 20


def groups(db: Store, table: str, column: str) -> list[int]:
    sizes = (
        db.read()
        .execute(
            f"select sum(count) from pragma_storage_info('{table}') "
            f"where column_name = '{column}' and segment_type <> 'VALIDITY' group by row_group_id order by row_group_id"
        )
        .fetchall()
    )
    return [int(size) for (size,) in sizes]


@pytest.mark.parametrize(
    ("group", "log", "expected"), [(220, 2**30, [200, 200, 100]), (400, 0, [350, 150]), (600, 0, [500])]
)
def test_row_groups_end_when_full_or_nearly_so_with_a_long_log(
    db: Store, monkeypatch: pytest.MonkeyPatch, group: int, log: int, expected: list[int]
) -> None:
    monkeypatch.setattr(batch_import, "BATCH", 50)
    monkeypatch.setattr(database, "ROW_GROUP", group)
    monkeypatch.setattr(database, "LOADING_LOG", log)
    pairs.import_rows(db, ROWS, "first")
    assert groups(db, "pairs", "seq") == expected


@pytest.mark.parametrize(("batch", "stay"), [(47_000, True), (40_000, False)])
def test_loaded_rows_are_not_written_again(
    db: Store, monkeypatch: pytest.MonkeyPatch, batch: int, stay: bool
) -> None:
    monkeypatch.setattr(database, "LOADING_LOG", 0)
    with db.atomic() as cursor:
        cursor.execute("create table filler (number bigint)")
    rows = 0
    with db.loading():
        for _ in range(8):
            with db.atomic() as cursor:
                cursor.execute("insert into filler from range($rows)", {"rows": batch})
            rows += batch
            if db.fold(rows, batch) or (not stay and rows >= 80_000):
                db.checkpoint()
                rows = 0
    loaded = groups(db, "filler", "number")
    assert loaded == [2 * batch] * 4
    with db.atomic() as cursor:
        cursor.execute("insert into filler values (0)")
    db.checkpoint()
    # DuckDB joins groups of two thirds, as it would have joined these if they had ended where the log was long enough.
    assert (groups(db, "filler", "number")[:4] == loaded) == stay


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
