"""Where the batches of an import go: into the store, or nowhere in a dry run.

A batch is taken for new at first: the unique index refuses it where it is not, and only then the table is read for
rows that it has. Once a batch held known rows, the next is looked up before it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import duckdb

from store.db import validation
from store.db.database import Cursor, Store, utcnow
from store.ids import new_id
from store.training_data.import_result import RejectedRow

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
Taken = TypeVar("Taken", bound=Value, contravariant=True)
Row = Mapping[str, Any]
Convert = Callable[[Row], Row | list[Row]]
Insert = Callable[[Cursor, Sequence[V], str, str, str], None]


@dataclass(frozen=True, slots=True)
class Kind(Generic[V]):
    """How rows of one kind are imported.

    `noun` is their table, `read` makes a value of a row (raises `Invalid`), `insert` writes values in a transaction (raises
    `duckdb.ConstraintException` for a known row).
    """

    noun: str
    read: Callable[[Row], V]
    insert: Insert[V]


@dataclass(frozen=True, slots=True)
class Request:
    """Where rows come from, whom they are for, and what the caller wants to know meanwhile.

    `on_batch(rows, accepted, duplicates, rejected)` is called after each batch and every `TELL_S` within one, whose rows
    are not accepted yet; it may raise to stop there, which leaves the batches before. `on_rejected` gets every refused row.
    `convert` makes our columns of a row in another format, or several rows (raises `Invalid`); without it, rows are read
    as those of store.transfer.standard_rows. `dry_run` counts and stores nothing.
    """

    source: str
    imported_by: str | None = None
    deployment: str | None = None
    on_batch: Callable[[int, int, int, int], None] | None = None
    on_rejected: Callable[[RejectedRow, object], None] | None = None
    convert: Convert | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        validation.text("source", self.source, 200)
        if self.deployment is not None:
            validation.deployment_name(self.deployment)

    @property
    def scope(self) -> str:
        """The deployment as the rows keep it: empty for every deployment."""
        return self.deployment or ""


class Sink(Protocol[Taken]):
    """What takes the batches of an import; `id` is the import's, "" where nothing is stored."""

    id: str

    def take(self, values: Mapping[str, Taken], duplicates: int, refused: int) -> int:
        """Take values by content hash, with the counts so far; return how many are new."""
        ...


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


class StoredImport(Generic[V]):
    """Write batches, each in a transaction with the import's counts."""

    def __init__(self, db: Store, kind: Kind[V], request: Request) -> None:
        self.id = new_id("imp")
        self._db, self._kind, self._request = db, kind, request
        self._accepted = self._unfolded = 0
        self._fresh = kind.noun in _UNIQUE
        with db.atomic() as cursor:
            cursor.execute(
                "insert into imports values ($id, $noun, $source, $by, $scope, 0, 0, 0, $now)",
                {
                    "id": self.id,
                    "noun": kind.noun,
                    "source": request.source,
                    "by": request.imported_by,
                    "scope": request.scope,
                    "now": utcnow(),
                },
            )

    def take(self, values: Mapping[str, V], duplicates: int, refused: int) -> int:
        """Write what is new of the values, given by content hash, and return how many that were.

        `duplicates` and `refused` were counted before.
        """
        counts = {"duplicates": duplicates, "refused": refused}
        new = None
        if self._fresh and not self._db.in_transaction:  # a refused insert ends the transaction that it is in
            with suppress(duckdb.ConstraintException):
                new = self._write(values, **counts, fresh=True)
        if new is None:
            new = self._write(values, **counts, fresh=False)
        self._accepted += new
        self._fresh = self._kind.noun in _UNIQUE and new == len(values)
        self._unfolded += new
        if self._db.fold(self._unfolded, len(values)):
            self._unfolded = 0
        return new

    def _write(
        self,
        values: Mapping[str, V],
        duplicates: int,
        refused: int,
        fresh: bool,
    ) -> int:
        with self._db.atomic() as cursor:
            new = values if fresh else _unknown(cursor, self._kind.noun, values, self._request.scope)
            if new:
                self._kind.insert(
                    cursor, list(new.values()), self._request.scope, self._request.source, self.id
                )
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


class TrialImport(Generic[V]):
    """Count what would be new; keep hashes in a temporary table, so that memory stays constant."""

    id = ""

    def __init__(self, db: Store, kind: Kind[V], request: Request) -> None:
        self._cursor = db.cursor()
        self._noun, self._scope = kind.noun, request.scope
        self._cursor.execute("create or replace temp table trial_hashes (hash varchar)")

    def take(self, values: Mapping[str, V], duplicates: int, refused: int) -> int:
        """Return how many of the values would be new."""
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

    def __enter__(self) -> TrialImport[V]:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()
