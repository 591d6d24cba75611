"""Rows on their way into one file: gathered in memory, put by where memory is short, written in large row groups."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from esmond_etl import TS
from esmond_etl.tables.columns import VAL, Kind
from esmond_etl.tables.rows import GROUP_ROWS, Rows, Subjects
from esmond_etl_parquet import encoding, files


class Block(NamedTuple):
    """Rows that have been put by in a file."""

    subjects: array[int]
    lengths: array[int]
    place: int
    size: int
    rows: int
    bytes: int


@dataclass
class Partition:
    """The rows of one event type and summary on one day."""

    kind: Kind
    event_type: str
    path: str  #: of the local file that is being written
    rows: Rows = field(default_factory=Rows)
    blocks: list[Block] = field(default_factory=list)
    writer: pq.ParquetWriter | None = None

    def put_by(self, spill: IO[bytes]) -> None:
        """Move the rows in memory to the end of `spill`."""
        rows, self.rows = self.rows.sorted(), Rows()
        batch = pa.RecordBatch.from_arrays([pa.concat_arrays(rows.ts), pa.concat_arrays(rows.val)], ["ts", "val"])
        rows.ts.clear()
        rows.val.clear()
        content = batch.serialize()
        self.blocks.append(Block(rows.subjects, rows.lengths, spill.tell(), content.size, rows.count, rows.bytes))
        spill.write(content)

    def _fetch(self, block: Block, spill: IO[bytes]) -> Rows:
        spill.seek(block.place)
        schema = pa.schema([("ts", TS), ("val", VAL[self.kind])])
        batch = pa.ipc.read_record_batch(pa.py_buffer(spill.read(block.size)), schema)
        return Rows(block.subjects, block.lengths, [batch.column(0)], [batch.column(1)], block.rows, block.bytes)

    def write_group(self, subjects: Subjects) -> None:
        """Write the rows in memory to the file, as a row group."""
        rows, self.rows = self.rows.sorted(), Rows()
        self._write(rows, subjects)

    def _write(self, rows: Rows, subjects: Subjects) -> None:
        if not rows.count:
            return
        self.writer = self.writer or encoding.writer(self.path, self.kind)
        self.writer.write_table(rows.table(subjects, self.kind, self.event_type), GROUP_ROWS)

    def finish(self, subjects: Subjects, keys: Collection[str], spill: IO[bytes] | None) -> bool:
        """Write all that is left and close the file; False if there were no rows, and is no file."""
        for rows in self._groups(spill):
            self._write(rows, subjects)
            del rows  # before the next ones are fetched
        if self.writer is None:
            return False
        self.writer.add_key_value_metadata(files.footer(keys))
        self.writer.close()
        self.writer = None
        return True

    def _groups(self, spill: IO[bytes] | None) -> Iterator[Rows]:
        """What is left, in as few row groups as it fills."""
        gathered = Rows()
        for block in self.blocks:
            if not gathered.has_room(block.rows, block.bytes):
                yield gathered
                gathered = Rows()
            if spill is not None:
                gathered.extend(self._fetch(block, spill))
        if not gathered.has_room(self.rows.count, self.rows.bytes):
            yield gathered
            gathered = Rows()
        gathered.extend(self.rows.sorted())
        self.rows = Rows()
        yield gathered
