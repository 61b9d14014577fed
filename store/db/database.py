"""The one DuckDB file: who owns it, who writes to it, how it grows from version to version.

One process owns the file (a lock beside it names the holder), one thread at a time writes (`atomic`), and
every thread reads with a cursor of its own, which never waits for a writer. Not covered: several processes,
networks.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple

import duckdb

from store.db.closing import close
from store.db.damage import is_damage, read_all
from store.errors import StoreDamaged, StoreLocked, StoreTooNew

Cursor = duckdb.DuckDBPyConnection

VERIFIED_BYTES = 256 * 2**20
"""A store up to this size is read once when it is opened, in half a second; `Store.verify_blocks` reads larger ones."""


class Migration(NamedTuple):
    """One numbered SQL script of `store/migrations`."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Return the schema's migrations, in order; versions count from 1 without gaps."""
    found = []
    for entry in resources.files("store").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    return sorted(found)


ROW_GROUP = 122_880  # rows that DuckDB stores together
LOG = 16 * 2**20  # bytes of write-ahead log at which DuckDB folds it into the file
LOADING_LOG = 256 * 2**20  # bytes of it while rows are loaded: what a crash leaves to be read again
MAX_LOADING_LOG = "1GB"  # of it where rows are so long that it fills up before a row group does

MEMORY = "1GB"
"""What DuckDB may hold by default: models live on the same machine, and DuckDB would take four fifths of it."""


_STATEMENTS = 1000  # more different texts than the store has; a caller may make texts without end
_parsed: dict[str, duckdb.Statement] = {}


def statement(cursor: Cursor, sql: str) -> duckdb.Statement:
    """Return one SQL statement as DuckDB reads it, read once in the life of the process.

    Reading takes DuckDB 2.0 0.05 to 0.2 ms, at each call: a tenth of a vote.
    """
    known = _parsed.get(sql)
    if known is None:
        (known,) = cursor.extract_statements(sql)
        if len(_parsed) >= _STATEMENTS:
            _parsed.clear()
        _parsed[sql] = known
    return known


_homes: weakref.WeakKeyDictionary[Cursor, Path] = weakref.WeakKeyDictionary()


def damage_in(cursor: Cursor, error: duckdb.Error) -> StoreDamaged | None:
    """Return what to raise in the place of DuckDB's own error where it found a damaged block of a store."""
    home = _homes.get(cursor)
    return StoreDamaged(str(home), str(error)) if home and is_damage(error) else None


def utcnow() -> datetime:
    """Return the time as the store keeps it: UTC, without zone, to the microsecond."""
    return datetime.now(UTC).replace(tzinfo=None)


class Store:
    """An open store. Make one with `Store.open`; any thread may use it; close it where it was opened."""

    def __init__(self, path: Path, connection: Cursor, lock: IO[str]) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._writer = threading.RLock()
        self._follow_ups: list[Callable[[], None]] = []  # of the transaction of whoever holds `_writer`
        self._local = threading.local()
        self._cursors: weakref.WeakSet[Cursor] = weakref.WeakSet()
        self._opening = threading.Lock()  # of cursors: none is opened that `close` would miss
        self._closed = False
        self._loads = 0
        # Whether everything has been read once since the store was opened, so that damage would have shown.
        self.verified = False
        # Held by long work that must not overlap (fingerprints, snapshots, erasures); taken before `atomic`, never inside.
        self.long_work = threading.RLock()
        # Who was erased since the store was opened, and when; see store.db.erasure_guard.
        self.erased: dict[str, datetime] = {}
        # The share of comparisons that want a second vote where several people may rate; see store.feedback.comparisons.
        self.second_votes = 0.0
        # The weight of a pair whose vote says "slightly"; see store.training_data.row_support.
        self.slight_weight = 0.5
        # What somebody who made no choice shares of what they say; see store.accounts.sharing.
        self.share: Literal["none", "show", "train"] = "train"
        # Applied to every text that people or models wrote before it is stored; see store.db.redaction.
        self.redact: Callable[[str], str] | None = None

    @classmethod
    def open(cls, path: str | Path, *, version: int | None = None, memory: str = MEMORY) -> Store:
        """Open the store at `path`, making it where there is none, and bring its schema up to date.

        DuckDB keeps at most `memory` (a size such as "1GB") of pages and intermediate results, and puts what is more
        into a directory beside the file. `version` stops the migrations at an older one (tests make their fixtures
        so). Raises `StoreLocked` where another process owns it, `StoreTooNew`, and `StoreDamaged` where the file can
        not be read; the file is then as it was.
        """
        path = Path(path).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _own(path)
        try:
            connection = _connect(path, memory)
            store = cls(path, connection, lock)
            try:
                store._migrate(version)
                if path.stat().st_size <= VERIFIED_BYTES:
                    read_all(store.read())
                    store.verified = True
            except duckdb.Error as error:
                if is_damage(error, opening=True):
                    with suppress(duckdb.Error):
                        connection.close()
                    raise StoreDamaged(str(path), str(error)) from error
                store.close()
                raise
            except BaseException:
                store.close()
                raise
        except BaseException:
            lock.close()
            raise
        return store

    def read(self) -> Cursor:
        """Return this thread's cursor. Inside `atomic` it sees what the transaction has written so far."""
        cursor: Cursor | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self.cursor()
            self._local.cursor = cursor
        return cursor

    def cursor(self) -> Cursor:
        """Return a new cursor, for a long read beside this thread's own; the caller closes it.

        Raises duckdb.ConnectionException once the store is closed.
        """
        with self._opening:
            if self._closed:
                raise duckdb.ConnectionException(f"{self.path} is closed")
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
        _homes[cursor] = self.path
        return cursor

    @contextmanager
    def atomic(self) -> Iterator[Cursor]:
        """Write as the one writer: everything inside commits together, or nothing does.

        Waits for other writing threads. Inside another `atomic` of the same thread it joins that transaction.
        The commit is durable (flushed to disk) when the block has been left.
        """
        with self._writer:
            cursor = self.read()
            if getattr(self._local, "depth", 0):
                yield cursor
                return
            cursor.execute(statement(cursor, "begin"))
            self._local.depth = 1
            try:
                yield cursor
                cursor.execute(statement(cursor, "commit"))
                for follow_up in self._follow_ups:
                    follow_up()
            except BaseException as error:
                with suppress(duckdb.Error):
                    cursor.execute("rollback")
                if is_damage(error):
                    raise StoreDamaged(str(self.path), str(error)) from error
                raise
            finally:
                self._local.depth = 0
                self._follow_ups.clear()

    def after_commit(self, follow_up: Callable[[], None]) -> None:
        """Call this when what is being written has been committed, and before anybody else writes; never if it is not.

        For inside `atomic`. It must not raise: what it follows is durable already.
        """
        self._follow_ups.append(follow_up)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Raise `StoreDamaged`, which says the way back, where DuckDB finds a damaged block inside."""
        try:
            yield
        except duckdb.Error as error:
            if is_damage(error):
                raise StoreDamaged(str(self.path), str(error)) from error
            raise

    def verify_blocks(self) -> None:
        """Read everything once, in the background of other work, so that a damaged block is found before it is needed.

        For a store that was too large to be read when it was opened. Raises `StoreDamaged`. Ends early, without a word,
        when the store is closed meanwhile.
        """
        try:
            with closing(self.cursor()) as cursor, self.guarded():
                read_all(cursor)
            self.verified = True
        except (duckdb.ConnectionException, duckdb.InterruptException):
            if not self._closed:
                raise

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Take many rows in: inside, the write-ahead log is folded into the file less often, and not tidied up after.

        DuckDB ends a row group at each checkpoint and joins short ones at later checkpoints, which writes rows again and
        holds several groups in memory. Call `fold` while rows come. Several threads may be inside.
        """
        with self._writer:
            self._loads += 1
            if self._loads == 1:
                self._connection.execute(f"set global wal_autocheckpoint = '{MAX_LOADING_LOG}'")
                self._connection.execute("set global max_vacuum_tasks = 0")
        try:
            yield
        finally:
            with self._writer:
                self._loads -= 1
                if self._loads == 0 and not self._closed:
                    if self._log_bytes() > LOG:
                        self.checkpoint()  # now: the next vote would have to, and to join row groups at that
                    self._connection.execute("reset global wal_autocheckpoint")
                    self._connection.execute("reset global max_vacuum_tasks")

    def fold(self, rows: int, next_rows: int) -> bool:
        """Checkpoint while loading if that ends a row group well: `rows` have come since, and `next_rows` come next.

        DuckDB joins up to four row groups that fit into one less: those above three quarters stay as they are.
        """
        full = rows + next_rows > ROW_GROUP
        if full or (4 * rows > 3 * ROW_GROUP and self._log_bytes() > LOADING_LOG):
            self.checkpoint()
            return True
        return False

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file; where a transaction is in the way, that is left for later."""
        with closing(self.cursor()) as cursor, suppress(duckdb.TransactionException):
            cursor.execute("checkpoint")

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `atomic`."""
        return bool(getattr(self._local, "depth", 0))

    @property
    def version(self) -> int:
        """The file's schema version."""
        row = self.read().execute("select coalesce(max(version), 0) from schema_migrations").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Fold the write-ahead log into the file and give the file up.

        Waits for the writer; reads that are under way in other threads end with an error. Harmless twice.
        """
        with self._writer:
            with self._opening:
                if self._closed:
                    return
                self._closed = True
            for cursor in list(self._cursors):
                with suppress(duckdb.Error):
                    close(cursor)
            with suppress(duckdb.Error):
                self._connection.execute("checkpoint")
            close(self._connection)
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    @contextmanager
    def owning(cls, path: str | Path) -> Iterator[None]:
        """Hold the ownership of a store without opening it, to replace its file. Raises `StoreLocked`."""
        lock = _own(Path(path).absolute())
        try:
            yield
        finally:
            lock.close()

    def _log_bytes(self) -> int:
        log = self.path.with_name(self.path.name + ".wal")
        return log.stat().st_size if log.exists() else 0

    def _migrate(self, stop_at: int | None) -> None:
        known = [m for m in migrations() if stop_at is None or m.version <= stop_at]
        cursor = self.read()
        has_ledger = cursor.execute(
            "select count(*) from information_schema.tables where table_name = 'schema_migrations'"
        ).fetchone()
        version = self.version if has_ledger and has_ledger[0] else 0
        newest = migrations()[-1].version
        if version > newest:
            raise StoreTooNew(str(self.path), version, newest)
        if not (todo := [m for m in known if m.version > version]):
            return
        with self.atomic() as cursor:
            cursor.execute(
                "create table if not exists schema_migrations "
                "(version integer primary key, name varchar not null, applied_at timestamp not null)"
            )
            for migration in todo:
                cursor.execute(migration.sql)
                cursor.execute(
                    "insert into schema_migrations values (?, ?, ?)",
                    [migration.version, migration.name, utcnow()],
                )


def _own(path: Path) -> IO[str]:
    """Take the lock beside the file and write who holds it; the kernel drops it when the process ends."""
    lock = open(path.with_name(path.name + ".lock"), "a+", encoding="utf-8")  # noqa: SIM115 (held until close)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with lock:
            raise _locked(path, lock) from error
    lock.seek(0)
    lock.truncate()
    json.dump({"pid": os.getpid(), "since": datetime.now(UTC).isoformat()}, lock)
    lock.flush()
    return lock


def _locked(path: Path, lock: IO[str]) -> StoreLocked:
    try:
        lock.seek(0)
        holder: dict[str, Any] = json.load(lock)
        return StoreLocked(str(path), int(holder["pid"]), datetime.fromisoformat(holder["since"]))
    except (ValueError, KeyError, TypeError):
        return StoreLocked(str(path))


def _connect(path: Path, memory: str) -> Cursor:
    if path.exists() and path.stat().st_size == 0:
        path.unlink()  # the process that made it was killed before its first byte
    try:
        return duckdb.connect(str(path), config={"memory_limit": memory})
    except duckdb.IOException as error:
        # Another program (the duckdb shell) may hold the file without our lock; only the text tells.
        if "lock on file" in str(error):
            pid = re.search(r"PID (\d+)", str(error))
            raise StoreLocked(str(path), int(pid[1]) if pid else None) from error
        if isinstance(error.__cause__, OSError) or "Permission denied" in str(error):
            raise
        raise StoreDamaged(str(path), str(error)) from error
    except duckdb.Error as error:
        raise StoreDamaged(str(path), str(error)) from error
