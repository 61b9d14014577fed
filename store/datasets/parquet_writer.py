"""Text as Parquet, written as fast as it is read: a thread encodes while the next rows are fetched.

Plain and uncompressed. For text that hardly repeats, dictionaries and even the fastest compression cost more time than
selecting the rows; see docs/benchmarks.md.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH = 2048
"""Rows to read at a time: what DuckDB makes at once. Larger batches are filled by growing buffers, and each growth touches
new memory."""

_ROW_GROUP = 20_480  # rows; what a reader of the file holds at a time
_AHEAD = 2  # row groups that wait to be encoded


def write(paths: Mapping[str, Path], batches: pa.RecordBatchReader) -> None:
    """Write the batches to new files; the last column, which is not written, says into which by its key in `paths`.

    In one pass, since reading text takes as long as writing it. Raises what reading or writing raises; parts of the
    files may be left.
    """
    schema = pa.schema(list(batches.schema)[:-1])
    waiting: queue.Queue[tuple[str, pa.Table] | None] = queue.Queue(_AHEAD)
    failed: list[Exception] = []

    def encode() -> None:
        try:
            with ExitStack() as stack:
                writers = {
                    key: stack.enter_context(
                        pq.ParquetWriter(
                            path, schema, compression="none", use_dictionary=False, write_statistics=False
                        )
                    )
                    for key, path in paths.items()
                }
                while (group := waiting.get()) is not None:
                    writers[group[0]].write_table(group[1], row_group_size=len(group[1]))
        except Exception as error:
            failed.append(error)
            while waiting.get() is not None:
                pass

    encoding = threading.Thread(target=encode, name="parquet")
    encoding.start()
    collected: dict[str, list[pa.RecordBatch]] = {key: [] for key in paths}
    try:
        for batch in batches:
            if failed:
                break
            keys, rows = batch.column(batch.num_columns - 1), batch.select(schema.names)
            for key, parts in collected.items():
                parts.append(rows.filter(pc.equal(keys, key)))
                if sum(map(len, parts)) >= _ROW_GROUP:
                    waiting.put((key, pa.Table.from_batches(parts)))
                    collected[key] = []
        for key, parts in collected.items():
            if any(map(len, parts)):
                waiting.put((key, pa.Table.from_batches(parts)))
    finally:
        waiting.put(None)
        encoding.join()
    if failed:
        raise failed[0]
