"""Rows from outside, in batches: read, judged one by one, written together, counted.

A bad row never stops the good ones, and a row that is known already is a duplicate; so an import that was cut
off may be run again. Memory stays constant: one batch, and the first refused rows.

A batch is taken for new at first: the unique index refuses it where it is not, and only then the table is read for
what it knows. Once a batch held known rows, the next is looked up before it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any, Protocol, TypeVar

import duckdb

from store import carried, import_notes
from store.db import redaction, validation
from store.db.database import Cursor, Store, utcnow
from store.errors import Invalid
from store.ids import new_id
from store.near_duplicates import index as near
from store.training_data.import_result import ImportResult, RejectedRow
from store.transfer import columns, formats
from store.transfer.row_files import UnreadableCells

log = logging.getLogger(__name__)

BATCH = 2000  # rows at most
BATCH_CHARACTERS = (
    32_000_000  # of the texts of a batch, and one row more: a batch of very long rows ends before
)
REJECTED_SHOWN = 1000
TELL_S = 0.5  # seconds within a batch between two words of `on_batch`: rows may be so long that a batch takes minutes
_UNIQUE = ("pairs", "demonstrations")  # these refuse a content hash that they hold


class Value(Protocol):
    """What an import makes of a row."""

    @property
    def content_hash(self) -> str:
        """What says that two rows are the same."""
        ...

    @property
    def characters(self) -> int:
        """How long its texts are together."""
        ...


V = TypeVar("V", bound=Value)
Row = Mapping[str, Any]
Convert = Callable[[Row], Row | list[Row]]
Insert = Callable[[Cursor, Sequence[V], str, str, str], None]


def ingest(
    db: Store,
    noun: str,
    rows: Iterable[object],
    read: Callable[[Row], V],
    insert: Insert[V],
    source: str,
    imported_by: str | None,
    deployment: str | None,
    on_batch: Callable[[int, int, int, int], None] | None = None,
    on_rejected: Callable[[RejectedRow, object], None] | None = None,
    convert: Convert | None = None,
    dry_run: bool = False,
) -> ImportResult:
    """Import `rows` with `read` (raises `Invalid`) and `insert` (raises `duckdb.ConstraintException` for a known row).

    A row is an object, or the `Invalid` that says why it could not be read.

    Each batch commits by itself together with the import's counts. `on_batch(rows, accepted, duplicates, rejected)` is
    told after each, and every `TELL_S` within one, whose rows are not accepted yet; it may raise to stop there, which
    leaves the batches before. `on_rejected` gets every refused row. `convert` makes our columns of a
    row in another format, or several rows (raises `Invalid`); without it, rows are read as those of
    store.transfer.standard_rows. `dry_run` judges and counts and stores nothing; its result has the id "".
    """
    scope = "" if deployment is None else validation.deployment_name(deployment)
    validation.text("source", source, 200)
    accepted = duplicates = refused = seen = 0
    shown: list[RejectedRow] = []
    noted = import_notes.Tally()
    values: dict[str, V] = {}
    waiting = 0  # characters of `values`
    told = monotonic()

    def tell() -> None:
        nonlocal told
        if on_batch:
            on_batch(seen, accepted, duplicates, refused)
            told = monotonic()

    with ExitStack() as stack:
        if dry_run:
            sink: _Trial | _Real = stack.enter_context(_Trial(db, noun, scope))
        else:
            stack.enter_context(db.loading())
            sink = _Real(db, noun, source, imported_by, scope)

        def write() -> None:
            nonlocal accepted, duplicates, waiting
            new = sink.take(values, insert, duplicates, refused)
            accepted += new
            duplicates += len(values) - new
            values.clear()
            waiting = 0
            tell()

        for row in rows:
            if monotonic() - told > TELL_S:
                tell()
            seen += 1
            if isinstance(row, UnreadableCells):
                row = row.row  # that a cell can not be read matters where a column is needed
            try:
                with import_notes.collect() as notes:
                    read_row = [
                        redaction.value(db, value) for value in _judge(row, read, convert, seen, noun)
                    ]
            except Invalid as error:
                refused += 1
                rejected = RejectedRow(seen, str(error))
                if len(shown) < REJECTED_SHOWN:
                    shown.append(rejected)
                if on_rejected:
                    on_rejected(rejected, row.value if isinstance(row, Invalid) else row)
                continue
            noted.add(notes)
            for value in read_row:
                if (key := value.content_hash) in values:
                    duplicates += 1
                else:
                    values[key] = value
                    waiting += value.characters
            if len(values) >= BATCH or waiting > BATCH_CHARACTERS:
                write()
        if values or refused or duplicates:
            write()
        if accepted and not dry_run:
            near.refresh(db, noun)
    return ImportResult(
        sink.id, accepted, duplicates, tuple(shown), refused, dict(noted.unused), dict(noted.rules)
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield what the messages of a value say."""
    for part in ("prompt", "chosen", "rejected", "completion"):
        for message in getattr(value, part, ()):
            yield message.content
            yield from columns.leaves(carried.load(message.carried))


def _judge(row: object, read: Callable[[Row], V], convert: Convert | None, number: int, noun: str) -> list[V]:
    """Return what a row says, once or several times.

    Raises `Invalid`, also for what goes wrong in judging it: the good rows are not to be lost.
    """
    if isinstance(row, Invalid):
        raise row
    if not isinstance(row, Mapping):
        raise Invalid("row", row, "an object")
    try:
        seen = columns.Seen(columns.named(row))
        converted = (convert or formats.STANDARD[noun])(seen)
        values = [read(part) for part in (converted if isinstance(converted, list) else [converted])]
        columns.finish(seen, (text for value in values for text in _texts(value)))
        return values
    except (Invalid, MemoryError):
        raise
    except Exception as error:
        log.exception("row %d could not be judged", number)
        why = f"a row that Trimtab can judge ({type(error).__name__}: an error of its own; its log says more)"
        raise Invalid("row", "…", why) from error


def _unknown(cursor: Cursor, table: str, values: Mapping[str, V], scope: str) -> dict[str, V]:
    """Return the values, by content hash, that `table` does not hold for a deployment."""
    cursor.execute(
        f"""
        select content_hash
        from {table}
        semi join (select unnest($hashes::varchar[]) as content_hash) using (content_hash)
        where deployment = $scope
        """,
        {"hashes": list(values), "scope": scope},
    )
    known = {row[0] for row in cursor.fetchall()}
    return {key: value for key, value in values.items() if key not in known}


class _Real:
    """Writes batches, each in a transaction with the import's counts."""

    def __init__(self, db: Store, noun: str, source: str, imported_by: str | None, scope: str) -> None:
        self.id = new_id("imp")
        self._db, self._source, self._scope = db, source, scope
        self._noun = noun
        self._accepted = self._unfolded = 0
        self._fresh = noun in _UNIQUE
        with db.atomic() as cursor:
            cursor.execute(
                "insert into imports values ($id, $noun, $source, $by, $scope, 0, 0, 0, $now)",
                {
                    "id": self.id,
                    "noun": noun,
                    "source": source,
                    "by": imported_by,
                    "scope": scope,
                    "now": utcnow(),
                },
            )

    def take(self, values: Mapping[str, V], insert: Insert[V], duplicates: int, refused: int) -> int:
        """Write what is new of the values, given by content hash, and return how many that were.

        `duplicates` and `refused` were counted before.
        """
        counts = {"duplicates": duplicates, "refused": refused}
        new = None
        if self._fresh and not self._db.in_transaction:  # a refused insert ends the transaction that it is in
            with suppress(duckdb.ConstraintException):
                new = self._write(values, insert, **counts, fresh=True)
        if new is None:
            new = self._write(values, insert, **counts, fresh=False)
        self._accepted += new
        self._fresh = self._noun in _UNIQUE and new == len(values)
        self._unfolded += new
        if self._db.fold(self._unfolded, BATCH):
            self._unfolded = 0
        return new

    def _write(
        self,
        values: Mapping[str, V],
        insert: Insert[V],
        duplicates: int,
        refused: int,
        fresh: bool,
    ) -> int:
        with self._db.atomic() as cursor:
            new = values if fresh else _unknown(cursor, self._noun, values, self._scope)
            if new:
                insert(cursor, list(new.values()), self._scope, self._source, self.id)
            cursor.execute(
                "update imports set accepted = $accepted, duplicates = $duplicates, rejected = $rejected "
                "where id = $id",
                {
                    "id": self.id,
                    "accepted": self._accepted + len(new),
                    "duplicates": duplicates + len(values) - len(new),
                    "rejected": refused,
                },
            )
        return len(new)


class _Trial:
    """Counts what would be new; remembers hashes in a temporary table, so that memory stays constant."""

    id = ""

    def __init__(self, db: Store, noun: str, scope: str) -> None:
        self._cursor = db.cursor()
        self._noun, self._scope = noun, scope
        self._cursor.execute("create or replace temp table trial_hashes (hash varchar)")

    def take(self, values: Mapping[str, V], insert: object, duplicates: int, refused: int) -> int:
        fresh = _unknown(self._cursor, self._noun, values, self._scope)
        self._cursor.execute(
            """
            insert into trial_hashes
            select hash
            from (select unnest($hashes::varchar[]) as hash)
            where hash not in (from trial_hashes)
            returning 1
            """,
            {"hashes": sorted(fresh)},
        )
        return len(self._cursor.fetchall())

    def __enter__(self) -> _Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()
