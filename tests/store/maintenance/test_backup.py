"""Backups are made while the store is written to, checked, and restored with the old file kept."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import duckdb
import pytest

from store.accounts import audit
from store.db.database import Store
from store.errors import Conflict, NotFound, StoreDamaged, StoreLocked, StoreTooNew
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance import backup, verify
from store.rollout import deployments
from store.training_data import pairs


def fill(db: Store) -> None:
    deployments.ensure(db, "assistant", "smol")
    rows = [
        {"prompt": f"question {n} " + "word " * 50, "chosen": "x" * 300, "rejected": f"y{n}" * 100}
        for n in range(1500)
    ]
    pairs.import_rows(db, rows, "test")
    made = comparisons.create(db, "Hi", [Candidate("x"), Candidate("y")], "assistant")
    comparisons.vote(db, made.id, "a", "ada")


def flip(path: Path, at: float) -> None:
    """Damage a quarter of a block at a place from 0 (start) to 1 (end)."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    for place in range(start, min(start + 65536, len(data))):
        data[place] ^= 0xFF
    path.write_bytes(data)


def test_a_backup_is_restored_elsewhere(db: Store, tmp_path: Path) -> None:
    fill(db)
    made = backup.write(db, tmp_path / "b" / "copy.duckdb")
    assert made.rows["pairs"] == 1501
    assert made.bytes == Path(made.path).stat().st_size
    done = backup.restore(made.path, tmp_path / "elsewhere" / "trimtab.duckdb")
    assert (done.kept, done.rows) == (None, made.rows)
    with Store.open(done.path) as other:
        assert pairs.list_page(other, 100) == pairs.list_page(db, 100)
        assert verify.verify(other) == []
        audit.record(other, None, "went on", "x")
        assert (
            pairs.import_rows(other, [{"prompt": "new", "chosen": "a", "rejected": "b"}], "test").accepted
            == 1
        )
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["copy.duckdb"]


def test_voting_goes_on_during_a_backup_and_the_backup_is_one_instant(db: Store, tmp_path: Path) -> None:
    fill(db)
    stop = threading.Event()

    def keep_voting() -> None:
        while not stop.is_set():
            made = comparisons.create(db, "Hi", [Candidate("x"), Candidate("y")], "assistant")
            comparisons.vote(db, made.id, "a", "ada")

    voter = threading.Thread(target=keep_voting)
    voter.start()
    try:
        made = backup.write(db, tmp_path / "copy.duckdb")
    finally:
        stop.set()
        voter.join()
    assert made.rows["votes"] >= 1
    assert made.rows["comparisons"] - made.rows["votes"] in (0, 1)


def test_a_restore_keeps_the_old_file(db: Store, tmp_path: Path) -> None:
    fill(db)
    made = backup.write(db, tmp_path / "copy.duckdb")
    target = tmp_path / "home" / "trimtab.duckdb"
    with Store.open(target) as old:
        audit.record(old, "ada", "old", "x")
        with pytest.raises(StoreLocked):
            backup.restore(made.path, target)
    done = backup.restore(made.path, target)
    assert done.kept is not None
    with Store.open(done.kept) as old:
        assert audit.list_recent(old)[0].action == "old"
    with Store.open(target) as new:
        assert pairs.count(new) == 1501


def test_what_exists_or_is_missing_is_left_alone(db: Store, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(Conflict):
        backup.write(db, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(NotFound):
        backup.restore(tmp_path / "nowhere", tmp_path / "home.duckdb")
    assert not (tmp_path / "home.duckdb").exists()


PLACES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


def test_a_damaged_backup_is_refused_and_changes_nothing(db: Store, tmp_path: Path) -> None:
    fill(db)
    made = Path(backup.write(db, tmp_path / "copy.duckdb").path)
    whole, everything = made.read_bytes(), pairs.list_page(db, 1000)
    target = tmp_path / "home" / "trimtab.duckdb"
    with Store.open(target) as old:
        audit.record(old, "ada", "old", "x")
    refused = 0
    for at in PLACES:
        made.write_bytes(whole)
        flip(made, at)
        try:
            done = backup.restore(made, tmp_path / f"free-{at}" / "trimtab.duckdb")
        except StoreDamaged:
            refused += 1
            with pytest.raises(StoreDamaged):
                backup.restore(made, target)
        else:  # what was hit is a block that holds nothing
            with Store.open(done.path) as other:
                assert pairs.list_page(other, 1000) == everything
    assert refused >= 3
    with Store.open(target) as old:
        assert audit.list_recent(old)[0].action == "old"
    assert sorted(p.name for p in target.parent.iterdir()) == ["trimtab.duckdb", "trimtab.duckdb.lock"]


def test_a_damaged_store_is_found_at_the_start_and_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "trimtab.duckdb"
    with Store.open(path) as db:
        fill(db)
        everything = pairs.list_page(db, 1000)
        made = backup.write(db, tmp_path / "copy.duckdb")
    whole, found, damaged = path.read_bytes(), 0, b""
    for at in PLACES:
        path.write_bytes(whole)
        flip(path, at)
        hit = path.read_bytes()
        try:
            with Store.open(path) as opened:  # what was hit is a block that holds nothing
                assert pairs.list_page(opened, 1000) == everything
        except StoreDamaged:
            assert path.read_bytes() == hit
            found, damaged = found + 1, hit
    assert found >= 3
    path.write_bytes(damaged)
    with pytest.raises(StoreDamaged, match="trimtab restore"):
        Store.open(path)
    done = backup.restore(made.path, path)
    assert done.kept is not None
    assert Path(done.kept).read_bytes() == damaged
    with Store.open(path) as new:
        assert pairs.count(new) == 1501


def damage_pairs(path: Path) -> None:
    """Fill a store and damage a block that holds texts of pairs."""
    with Store.open(path) as db:
        fill(db)
    whole = path.read_bytes()
    for at in PLACES[1:]:
        path.write_bytes(whole)
        flip(path, at)
        with Store.open(path) as db:
            try:
                pairs.list_page(db, 1000)
            except StoreDamaged:
                return
    raise AssertionError("no block holds them")


def test_damage_in_a_large_store_is_reported_by_the_query_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trimtab.duckdb"
    monkeypatch.setattr("store.db.database.VERIFIED_BYTES", 0)
    damage_pairs(path)
    with Store.open(path) as db:
        assert not db.verified
        told = f"^{re.escape(str(path))} is damaged .*`trimtab restore BACKUP`"
        with pytest.raises(StoreDamaged, match=told):
            db.verify_blocks()
        assert not db.verified
        with pytest.raises(StoreDamaged, match=told):
            pairs.list_page(db, 1000)
        for careful in (db.guarded, db.atomic):
            with pytest.raises(StoreDamaged, match=told), careful():
                db.read().execute("select max(hash(pairs)) from pairs").fetchall()
        with pytest.raises(StoreDamaged, match=told):
            backup.write(db, tmp_path / "copy.duckdb")
        with pytest.raises(duckdb.ParserException), db.guarded():
            db.read().execute("nonsense")
    assert list(tmp_path.glob("*copy*")) == []


def test_large_store_is_read_whole_unless_closed_first(
    db: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db)
    backup.write(db, tmp_path / "copy.duckdb")
    monkeypatch.setattr("store.db.database.VERIFIED_BYTES", 0)
    with Store.open(tmp_path / "copy.duckdb") as copy:
        copy.verify_blocks()
        assert copy.verified
        reading = threading.Event()

        def endless(cursor: duckdb.DuckDBPyConnection) -> None:
            reading.set()
            cursor.execute(
                "select max(a.i + b.i) from range(1000000000) a(i), range(1000000000) b(i)"
            ).fetchall()

        monkeypatch.setattr("store.db.database.read_all", endless)
        copy.verified = False
        sweeping = threading.Thread(target=copy.verify_blocks)
        sweeping.start()
        assert reading.wait(10)
        copy.close()
        sweeping.join(10)
        assert not copy.verified


def test_what_cannot_be_restored_is_called_by_its_own_name(db: Store, tmp_path: Path) -> None:
    foreign, target = tmp_path / "letter.txt", tmp_path / "home" / "trimtab.duckdb"
    foreign.write_text("Dear Ada, " * 1000)
    with pytest.raises(StoreDamaged, match=f"nothing was put at {target}") as caught:
        backup.restore(foreign, target)
    assert str(caught.value).startswith(str(foreign))
    assert "restore-" not in str(caught.value)
    Store.open(target).close()
    with pytest.raises(StoreDamaged, match=f"{target} is as it was. Choose another backup"):
        backup.restore(foreign, target)
    newer = Path(backup.write(db, tmp_path / "newer.duckdb").path)
    with Store.open(newer) as later, later.atomic() as cursor:
        cursor.execute("insert into schema_migrations values (9999, 'from_the_future', now())")
    with pytest.raises(StoreTooNew, match=f"^{newer} "):
        backup.restore(newer, target)


def test_verify_names_what_disagrees(db: Store) -> None:
    fill(db)
    with db.atomic() as cursor:
        cursor.execute(
            "update pairs set weight = 1, chosen = [{'role': 'assistant', 'content': 'other'}] where seq = 7"
        )
        cursor.execute("delete from votes")
        cursor.execute("update deployments set stable = 'rel-0'")
    found = {(wrong.noun, wrong.what) for wrong in verify.verify(db)}
    assert found == {
        ("pair", "its text does not give its content hash"),
        ("evidence", "names a vote that is not there"),
        ("comparison", "counts other votes than it has"),
        ("deployments", "its stable is not there"),
    }
