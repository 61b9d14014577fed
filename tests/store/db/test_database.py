"""One owner, one writer, one transaction a fact; migrations; damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from store.accounts import audit, users
from store.conversations import conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store, migrations
from store.db.rows import scalar
from store.errors import Invalid, StoreDamaged, StoreLocked, StoreTooNew
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.training_data import pairs
from store.values import Message, PreferencePair


def test_second_owner_gets_the_holder_of_the_file(db: Store) -> None:
    with pytest.raises(StoreLocked) as caught:
        Store.open(db.path)
    assert caught.value.pid == os.getpid()
    assert caught.value.since is not None
    assert str(os.getpid()) in str(caught.value)


def test_second_process_gets_the_holder_of_the_file(db: Store) -> None:
    code = f"from store.db.database import Store\nStore.open({str(db.path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"in use by process {os.getpid()} since" in done.stderr


def test_a_foreign_holder_is_reported_too(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    Store.open(path).close()
    code = f"import duckdb\nc = duckdb.connect({str(path)!r})\nprint('held', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreLocked) as caught:
            Store.open(path)
        assert caught.value.pid == holder.pid
        holder.communicate("\n")
    Store.open(path).close()


def test_the_file_is_free_again_after_close(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with Store.open(path) as first:
        audit.record(first, "ada", "wrote", "x")
    with Store.open(path) as second:
        assert [entry.actor for entry in audit.list_recent(second)] == ["ada"]


def test_a_read_that_is_under_way_does_not_keep_the_store_open(tmp_path: Path) -> None:
    path, ended, begun = tmp_path / "t.duckdb", list[str](), threading.Event()
    store = Store.open(path)

    def read() -> None:
        cursor = store.cursor()
        begun.set()
        try:
            cursor.execute("select count(*) from range(10000000000) as a(x) where x % 7 = 3").fetchall()
        except duckdb.Error as error:
            ended.append(type(error).__name__)

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    time.sleep(0.2)
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < 4
    reader.join(10)
    assert ended == ["InterruptException"]
    Store.open(path).close()
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        store.cursor()


def test_atomic_commits_all_or_nothing_and_nests(db: Store) -> None:
    def write_and_fail() -> None:
        with db.atomic():
            audit.record(db, None, "one", "x")
            with db.atomic():
                audit.record(db, None, "two", "x")
            assert len(audit.list_recent(db)) == 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert audit.list_recent(db) == []
    audit.record(db, None, "three", "x")
    assert len(audit.list_recent(db)) == 1


def test_an_error_inside_leaves_the_thread_usable(db: Store) -> None:
    users.create(db, "ada", ["ops"])
    with pytest.raises(Invalid), db.atomic():
        users.create(db, "bob", ["king"])
    users.create(db, "bob", ["rater"])
    assert users.count(db) == 2


def test_threads_write_in_turn_and_read_at_once(db: Store) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(20):
                audit.record(db, f"t{number}", "step", str(step))
                audit.list_recent(db)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert scalar(db.read(), "select count(*) from audit") == 160


def test_readers_do_not_wait_for_a_writer(db: Store) -> None:
    seen: list[int] = []
    with db.atomic():
        audit.record(db, None, "slow", "x")
        reader = threading.Thread(target=lambda: seen.append(len(audit.list_recent(db))))
        reader.start()
        reader.join(5)
        assert seen == [0]


def test_versions_count_from_one_without_gaps() -> None:
    assert [m.version for m in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_newer_file_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with Store.open(path) as store, store.atomic() as cursor:
        cursor.execute("insert into schema_migrations values (9999, 'from_the_future', now())")
    before = path.read_bytes()
    with pytest.raises(StoreTooNew) as caught:
        Store.open(path)
    assert caught.value.version == 9999
    assert path.read_bytes() == before


def asked(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def said(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


WRITTEN = (
    "users", "conversations", "messages", "completions", "comparisons", "candidates", "votes", "pairs", "demonstrations",
    "likes", "evidence",
)  # fmt: skip


def written(newest: Path, write: Callable[[Store], None]) -> Path:
    """A store of the newest version with the rows that `write` gives it."""
    with Store.open(newest) as new:
        write(new)
    return newest


def make_old(path: Path, version: int, newest: Path) -> None:
    """Leave a store of an older version with the rows of `newest`, as far as it has the columns."""
    with Store.open(path, version=version) as old, old.atomic() as cursor:
        assert old.version == version
        columns: dict[str, list[str]] = {}
        for table, column in cursor.execute(
            "select table_name, column_name from duckdb_columns() where not internal order by column_index"
        ).fetchall():
            columns.setdefault(table, []).append(f'"{column}"')
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"attach '{newest}' as newest (read_only)")
        for table in WRITTEN:
            names = ", ".join(columns[table])
            connection.execute(f"insert into {table} ({names}) select {names} from newest.{table}")


OLD_PAIR = PreferencePair(asked("Old?"), said("yes"), said("no"), 0.5, ("t",))


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a row of each kind."""

    def write(db: Store) -> None:
        users.create(db, "ada", ["ops"])
        with db.atomic() as cursor:
            pairs.insert(cursor, [OLD_PAIR], "", "file.jsonl", "imp-1")
        made = comparisons.create(db, "Which?", [Candidate("x"), Candidate("y")], "assistant")
        comparisons.vote(db, made.id, "a", "ada", better="z")
        turn = Turn("c1", "conv", asked("Hi"), "Hello.", "assistant", user="ada")
        conversations.record_turns(db, [turn])
        conversations.like(db, "c1", True, "ada")

    return written(tmp_path_factory.mktemp("newest") / "newest.duckdb", write)


@pytest.mark.parametrize("version", [m.version for m in migrations()])
def test_every_older_version_migrates_forward_with_its_rows(
    tmp_path: Path, newest: Path, version: int
) -> None:
    path = tmp_path / "t.duckdb"
    make_old(path, version, newest)
    with Store.open(path) as new:
        assert new.version == migrations()[-1].version
        assert [user.name for user in users.list_all(new)] == ["ada"]
        assert verify.verify(new) == []
        assert OLD_PAIR in [record.pair for record in pairs.list_page(new)]
        rows = {"dpo": 4, "sft": 2, "kto": 1}
        for method, count in rows.items():
            snapshot = snapshots.build(new, tmp_path / "s", "assistant", method, 0.0)
            assert snapshot.train_rows == count


def test_comparisons_that_an_erasure_left_decided_without_votes_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    ids: list[str] = []

    def write(db: Store) -> None:
        for choice in "ab":
            ids.append(comparisons.create(db, "Which?", [Candidate("x"), Candidate("y")], "assistant").id)
            comparisons.vote(db, ids[-1], choice, "ada")
        with db.atomic() as cursor:
            cursor.execute("delete from votes where comparison_id = $id", {"id": ids[0]})

    make_old(path, 8, written(tmp_path / "newest.duckdb", write))
    with Store.open(path) as new:
        found = [(made.state, made.votes_given) for made in (comparisons.get(new, id) for id in ids)]
        assert found == [("open", 0), ("decided", 1)]


def test_comparisons_of_a_store_from_before_they_carried_calls_keep_rows_and_votes(tmp_path: Path) -> None:
    path, kept = tmp_path / "t.duckdb", tmp_path / "newest.duckdb"

    def write(db: Store) -> None:
        talk = [Message("system", "Be brief."), *asked("Hi"), *said("Hello."), *asked("And é?")]
        shown = [Candidate("x", "r-1", "stable", "tiny", "c1", {"top_p": 0.5}, "stop"), Candidate("y")]
        made = [comparisons.create(db, talk, shown, "assistant", asked_by="ada", votes_wanted=3)]
        made += [comparisons.create(db, f"Which {n}?", shown, "assistant", votes_wanted=1) for n in range(5)]
        made.append(comparisons.create(db, "Gold?", shown, gold="first", votes_wanted=1))
        for one, choice in zip(made[1:], ("a", "b", "tie", "both_bad"), strict=False):
            comparisons.vote(db, one.id, choice, "ada", better="z" if choice == "a" else None, tags=("t",))
        for rater in ("ada", "bob"):
            comparisons.vote(db, made[0].id, "a", rater, seconds=2.5)

    def rows(db: Store) -> dict[str, list[Any]]:
        select = "select columns(lambda c: c <> 'carried') from {} order by all"
        return {table: db.read().execute(select.format(table)).fetchall() for table in WRITTEN}

    make_old(path, 32, written(kept, write))
    with Store.open(kept) as was:
        before, shown_before = rows(was), comparisons.list_all(was)
    with Store.open(path) as new:
        assert new.version == migrations()[-1].version
        assert {table: len(found) for table, found in rows(new).items()}["votes"] == 6
        assert rows(new) == before
        assert comparisons.list_all(new) == shown_before
        assert verify.verify(new) == []
        waiting = next(one for one in shown_before if one.votes_wanted == 3)
        comparisons.vote(new, waiting.id, "b", "eve")
        assert (comparisons.get(new, waiting.id).state, comparisons.get(new, waiting.id).votes_given) == (
            "decided",
            3,
        )
        calls = Candidate("", carried='{"reasoning_content":"Well"}')
        made = comparisons.create(new, "New?", [calls, Candidate("y")], "assistant")
        assert {made.a.carried, made.b.carried} == {"", calls.carried}


def test_a_failing_migration_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.duckdb"
    Store.open(path).close()
    whole = migrations()
    broken = whole[-1]._replace(version=len(whole) + 1, sql="create table half (x int); select nonsense")
    with monkeypatch.context() as patch:
        patch.setattr("store.db.database.migrations", lambda: [*whole, broken])
        with pytest.raises(duckdb.Error):
            Store.open(path)
    with Store.open(path) as store:
        assert store.version == len(whole)
        assert scalar(store.read(), "select count(*) from duckdb_tables() where table_name = 'half'") == 0


def test_a_file_that_was_never_begun_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    path.touch()
    Store.open(path).close()
    assert path.stat().st_size > 0


@pytest.mark.parametrize("content", [b"junk" * 5000, b"\0" * 20000])
def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreDamaged) as caught:
        Store.open(path)
    assert "trimtab restore" in str(caught.value)
    assert path.read_bytes() == content


def test_lock_file_names_its_holder(db: Store) -> None:
    holder = json.loads(db.path.with_name(db.path.name + ".lock").read_text())
    assert holder["pid"] == os.getpid()
