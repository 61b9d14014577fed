"""One owner, one writer, one transaction a fact; migrations; damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from store.accounts import audit, users
from store.datasets import snapshots
from store.db.database import Store, migrations
from store.db.rows import scalar
from store.errors import Invalid, StoreDamaged, StoreLocked, StoreTooNew
from store.feedback import comparisons
from store.maintenance import verify
from store.records import Candidate
from store.training_data import demonstrations, likes, pairs
from store.values import Demonstration, Message, PreferencePair


def test_a_second_owner_is_told_who_holds_the_file(db: Store) -> None:
    with pytest.raises(StoreLocked) as caught:
        Store.open(db.path)
    assert caught.value.pid == os.getpid()
    assert caught.value.since is not None
    assert str(os.getpid()) in str(caught.value)


def test_a_second_process_is_told_who_holds_the_file(db: Store) -> None:
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


@pytest.mark.parametrize("version", [m.version for m in migrations()])
def test_every_older_version_migrates_forward_with_its_rows(tmp_path: Path, version: int) -> None:
    path = tmp_path / "t.duckdb"
    with Store.open(path, version=version) as old:
        assert old.version == version
        with old.atomic() as cursor:
            cursor.execute("insert into users values ('ada', 'user-1', ['ops'], null, now())")
            pair = PreferencePair(asked("Old?"), said("yes"), said("no"), 0.5, ("t",))
            pairs.insert(cursor, [pair], "", "file.jsonl", "imp-1")
        made = comparisons.create(old, "Which?", [Candidate("x"), Candidate("y")], "assistant")
        comparisons.vote(old, made.id, "a", "ada", better="z")
        with old.atomic() as cursor:  # in the words of that version: the code writes the newest
            cursor.execute(
                "insert into conversations (id, user_name, deployment, created_at, updated_at) "
                "values ('conv', 'ada', 'assistant', now(), now())"
            )
            for id, parent, message in (("m1", None, asked("Hi")[0]), ("m2", "m1", said("Hello.")[0])):
                cursor.execute(
                    "insert into messages values (?, 'conv', ?, ?, ?, now())",
                    [id, parent, message.role, message.content],
                )
            cursor.execute(
                "insert into completions (id, conversation_id, prompt_id, message_id, deployment, user_name, created_at) "
                "values ('c1', 'conv', 'm1', 'm2', 'assistant', 'ada', now())"
            )
            value = Demonstration(asked("Hi"), said("Hello."))
            likes.put(cursor, "c1", value, True, "assistant", "ada")
            demonstrations.derive(cursor, value, "assistant", "like", "c1", "ada")
    with Store.open(path) as new:
        assert new.version == migrations()[-1].version
        assert [user.name for user in users.list_all(new)] == ["ada"]
        assert verify.verify(new) == []
        assert pair in [record.pair for record in pairs.list_page(new)]
        rows = {"dpo": 4, "sft": 2, "kto": 1}
        for method, count in rows.items():
            snapshot = snapshots.build(new, tmp_path / "s", "assistant", method, 0.0)
            assert snapshot.train_rows == count


def test_comparisons_that_an_erasure_left_decided_without_votes_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with Store.open(path, version=8) as old:
        ids = []
        for choice in "ab":
            ids.append(comparisons.create(old, "Which?", [Candidate("x"), Candidate("y")], "assistant").id)
            comparisons.vote(old, ids[-1], choice, "ada")
        with old.atomic() as cursor:
            cursor.execute("delete from votes where comparison_id = $id", {"id": ids[0]})
    with Store.open(path) as new:
        found = [(made.state, made.votes_given) for made in (comparisons.get(new, id) for id in ids)]
        assert found == [("open", 0), ("decided", 1)]


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


def test_the_lock_file_says_who(db: Store) -> None:
    holder = json.loads(db.path.with_name(db.path.name + ".lock").read_text())
    assert holder["pid"] == os.getpid()
