"""Rows that wait for their commit: in memory, or in a temporary file if there are many."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import Final

import pyarrow as pa

#: Bytes of a table that stay in memory.
IN_MEMORY: Final = 8 << 20

#: Rows that are written as one batch.
ROWS: Final = 16384


class Stage:
    """Rows of one table, in the order they came; one thread at a time."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = 0
        self._file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed by `close`
        self._writer = pa.ipc.new_stream(self._file, schema)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def add(self, *columns: pa.Array) -> None:
        """Add rows, in columns."""
        self._waiting.append(pa.RecordBatch.from_arrays(list(columns), schema=self.schema))
        self.rows += len(columns[0])
        self._waiting_rows += len(columns[0])
        if self._waiting_rows >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks())
        self._waiting, self._waiting_rows = [], 0

    def reader(self) -> pa.RecordBatchReader:
        """All rows, batch by batch; may be called again."""
        self._flush()
        self._writer.close()
        self._file.seek(0)
        return pa.ipc.open_stream(self._file)

    def close(self) -> None:
        """Free the rows."""
        self._waiting = []
        self._writer.close()
        self._file.close()
