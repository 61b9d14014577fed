"""Text as Parquet, written as fast as it is read: a thread encodes while the next rows are fetched.

Plain and uncompressed. For text that hardly repeats, dictionaries and even the fastest compression cost more time than
selecting the rows; see docs/benchmarks.md.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_AHEAD = 2  # batches that wait to be encoded


def write(path: Path, batches: pa.RecordBatchReader) -> None:
    """Write the batches to a new file, each as a row group. Raises what reading or writing raises; a part may be left."""
    waiting: queue.Queue[pa.RecordBatch | None] = queue.Queue(_AHEAD)
    failed: list[Exception] = []

    def encode() -> None:
        try:
            with pq.ParquetWriter(
                path, batches.schema, compression="none", use_dictionary=False, write_statistics=False
            ) as writer:
                while (batch := waiting.get()) is not None:
                    writer.write_batch(batch)
        except Exception as error:
            failed.append(error)
            while waiting.get() is not None:
                pass

    encoding = threading.Thread(target=encode, name="parquet")
    encoding.start()
    try:
        for batch in batches:
            if failed:
                break
            waiting.put(batch)
    finally:
        waiting.put(None)
        encoding.join()
    if failed:
        raise failed[0]
