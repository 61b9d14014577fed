"""Rows from outside, in batches: read one by one, written together, counted.

A bad row never stops the good ones, and a row that is known already is a duplicate; so an import that was cut
off may be run again. Memory stays constant: one batch, and the first refused rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from time import monotonic
from typing import Any, Generic

from store import carried, import_notes
from store.db import redaction
from store.db.database import Store
from store.errors import Invalid
from store.near_duplicates import index as near
from store.training_data.import_result import ImportResult, RejectedRow
from store.training_data.import_sink import Convert, Kind, Request, Sink, StoredImport, TrialImport, V
from store.transfer import columns, formats, row_tools
from store.transfer.row_files import UnreadableCells

log = logging.getLogger(__name__)

BATCH = 2000  # rows at most
# Of the texts of a batch, and one row more: a batch of very long rows ends before.
BATCH_CHARACTERS = 32_000_000
REJECTED_SHOWN = 1000
TELL_S = (
    0.5  # seconds between two calls of `on_batch` within a batch: very long rows make a batch take minutes
)


def import_rows(
    kind: Kind[V],
    db: Store,
    rows: Iterable[object],
    source: str,
    imported_by: str | None = None,
    deployment: str | None = None,
    **options: Any,
) -> ImportResult:
    """Import rows of a kind; refused rows are reported with their number (from 1) and reason.

    `deployment` None serves every deployment. See `import_sink.Request` for the options and for what an interruption leaves.
    """
    return ingest(db, kind, rows, Request(source, imported_by, deployment, **options))


def ingest(db: Store, kind: Kind[V], rows: Iterable[object], request: Request) -> ImportResult:
    """Import rows: each an object, or the `Invalid` that says why it could not be read.

    Each batch commits by itself together with the import's counts. The result of a dry run has the id "".
    """
    with ExitStack() as stack:
        if request.dry_run:
            sink: Sink[V] = stack.enter_context(TrialImport(db, kind, request))
        else:
            stack.enter_context(db.loading())
            sink = StoredImport(db, kind, request)
        progress = _Progress(db, kind, request, sink)
        for row in rows:
            progress.take(row)
        progress.finish()
        if progress.accepted and not request.dry_run:
            near.refresh(db, kind.noun)
    return progress.result()


class _Progress(Generic[V]):
    """An import under way: its counts, and the batch that fills up."""

    def __init__(self, db: Store, kind: Kind[V], request: Request, sink: Sink[V]) -> None:
        self._db, self._kind, self._request, self._sink = db, kind, request, sink
        self.accepted = self._duplicates = self._refused = self._seen = 0
        self._shown: list[RejectedRow] = []
        self._noted = import_notes.Tally()
        self._batch: dict[str, V] = {}
        self._characters = 0  # of `_batch`
        self._reported_at = monotonic()

    def take(self, row: object) -> None:
        """Read a row into the batch, or refuse it; write the batch where it is full."""
        if monotonic() - self._reported_at > TELL_S:
            self._report()
        self._seen += 1
        if isinstance(row, UnreadableCells):
            row = row.row  # that a cell cannot be read matters where a column is needed
        try:
            with import_notes.collect() as notes:
                found = read_row(row, self._kind, self._request.convert, self._seen)
                read = [redaction.value(self._db, value) for value in found]
        except Invalid as error:
            self._refuse(row, error)
            return
        self._noted.add(notes)
        for value in read:
            if (key := value.content_hash) in self._batch:
                self._duplicates += 1
            else:
                self._batch[key] = value
                self._characters += value.characters
        if len(self._batch) >= BATCH or self._characters > BATCH_CHARACTERS:
            self._write()

    def finish(self) -> None:
        """Write what is left, and the counts."""
        if self._batch or self._refused or self._duplicates:
            self._write()

    def result(self) -> ImportResult:
        """Return the counts and the first refused rows."""
        return ImportResult(
            self._sink.id,
            self.accepted,
            self._duplicates,
            tuple(self._shown),
            self._refused,
            dict(self._noted.unused),
            dict(self._noted.rules),
        )

    def _refuse(self, row: object, error: Invalid) -> None:
        self._refused += 1
        rejected = RejectedRow(self._seen, str(error))
        if len(self._shown) < REJECTED_SHOWN:
            self._shown.append(rejected)
        if self._request.on_rejected:
            self._request.on_rejected(rejected, row.value if isinstance(row, Invalid) else row)

    def _write(self) -> None:
        new = self._sink.take(self._batch, self._duplicates, self._refused)
        self.accepted += new
        self._duplicates += len(self._batch) - new
        self._batch.clear()
        self._characters = 0
        self._report()

    def _report(self) -> None:
        if self._request.on_batch:
            self._request.on_batch(self._seen, self.accepted, self._duplicates, self._refused)
            self._reported_at = monotonic()


def _texts(value: Any) -> Iterator[str]:
    """Yield what the messages of a value say."""
    for part in ("prompt", "chosen", "rejected", "completion"):
        for message in getattr(value, part, ()):
            yield message.content
            yield from columns.leaves(carried.load(message.carried))


def read_row(row: object, kind: Kind[V], convert: Convert | None, number: int) -> list[V]:
    """Return the values that a row, the `number`th of its input, makes. Raises `Invalid`."""
    if isinstance(row, Invalid):
        raise row
    if not isinstance(row, Mapping):
        raise Invalid("row", row, "an object")
    try:
        seen = columns.Seen(columns.named(row))
        converted = (convert or formats.STANDARD[kind.noun])(seen)
        parts = converted if isinstance(converted, list) else [converted]
        values = [kind.read(row_tools.attached(part, seen)) for part in parts]
        columns.finish(seen, (text for value in values for text in _texts(value)))
        return values
    except (Invalid, MemoryError):
        raise
    except Exception as error:  # an error of ours in one row: logged, and the good rows are not lost for it
        log.exception("row %d could not be read", number)
        why = f"a row that Trimtab can read ({type(error).__name__}: an error of its own; its log says more)"
        raise Invalid("row", "…", why) from error
