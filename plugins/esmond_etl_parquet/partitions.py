"""Rows for one file: gathered in memory, spilled if memory is short, written in large row groups."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import IO

import pyarrow.parquet as pq

from esmond_etl.tables.rows import GROUP_ROWS, Gathered, Rows, Subjects
from esmond_etl_parquet import encoding, files


@dataclass
class Partition(Gathered):
    """The rows of one event type and summary on one day."""

    path: str = ""  #: of the local file that is being written
    writer: pq.ParquetWriter | None = None

    def write_group(self, subjects: Subjects) -> None:
        """Write the rows in memory to the file, as a row group."""
        rows, self.rows = self.rows.sorted(), Rows()
        if rows.count:
            self._write(rows, subjects)

    def _write(self, rows: Rows, subjects: Subjects) -> None:
        self.writer = self.writer or encoding.writer(self.path, self.kind)
        self.writer.write_table(rows.table(subjects, self.kind, self.event_type), GROUP_ROWS)

    def finish(self, subjects: Subjects, keys: Collection[str], spill: IO[bytes] | None) -> bool:
        """Write the rest and close the file; False if there were no rows, and so no file."""
        for rows in self.groups(spill):
            self._write(rows, subjects)
            del rows  # freed before the next ones are fetched
        self.rows = Rows()
        if self.writer is None:
            return False
        self.writer.add_key_value_metadata(files.footer(keys))
        self.writer.close()
        self.writer = None
        return True
