"""Rows on their way into one file: gathered in memory, put by where memory is short, written in large row groups."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from esmond_etl import NUMBER, TS, Metadata
from esmond_etl_parquet import columns, files, typed
from esmond_etl_parquet.columns import GROUP_ROWS, VAL, Kind

#: Bytes that fill a row group.
GROUP_BYTES: Final = 8 << 20


@dataclass
class Subjects:
    """What is said of every datapoint of a series, each by a small number; for all partitions of a load."""

    values: list[tuple[str | None, ...]] = field(default_factory=list)
    metadata: list[Metadata] = field(default_factory=list)
    numbers: dict[tuple[str | None, ...], int] = field(default_factory=dict)  #: by values

    def number(self, metadata: Metadata) -> int:
        """The number of the subject that `metadata` describes: a transform may describe some series of a key otherwise."""
        values = columns.subject_values(metadata)
        if values not in self.numbers:
            self.numbers[values] = len(self.values)
            self.values.append(values)
            self.metadata.append(metadata)
        return self.numbers[values]


@dataclass
class Rows:
    """Runs of rows, each of one subject."""

    subjects: array[int] = field(default_factory=lambda: array("i"))  #: of each run, its number
    lengths: array[int] = field(default_factory=lambda: array("i"))  #: of each run, its rows
    ts: list[pa.Array] = field(default_factory=list)
    val: list[pa.Array] = field(default_factory=list)
    count: int = 0
    bytes: int = 0

    def add(self, subject: int, ts: pa.Array, val: pa.Array) -> int:
        """Add a run; returns its bytes."""
        size = len(ts) * 16 if val.type == NUMBER else len(ts) * 8 + int(val.nbytes)
        self.subjects.append(subject)
        self.lengths.append(len(ts))
        self.ts.append(ts)
        self.val.append(val)
        self.count += len(ts)
        self.bytes += size
        return size

    def has_room(self, count: int, size: int) -> bool:
        """Whether that many more rows, of so many bytes, go into the same row group."""
        return self.count + count <= GROUP_ROWS and self.bytes + size <= GROUP_BYTES

    def extend(self, other: Rows) -> None:
        """Add the runs of `other`."""
        self.subjects.extend(other.subjects)
        self.lengths.extend(other.lengths)
        self.ts.extend(other.ts)
        self.val.extend(other.val)
        self.count += other.count
        self.bytes += other.bytes

    def sorted(self) -> Rows:
        """The same with the runs of a subject one after the other: they compress better."""
        order = sorted(range(len(self.subjects)), key=self.subjects.__getitem__)
        result = Rows(count=self.count, bytes=self.bytes)
        for run in order:
            result.subjects.append(self.subjects[run])
            result.lengths.append(self.lengths[run])
            result.ts.append(self.ts[run])
            result.val.append(self.val[run])
        return result


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
        self.writer = self.writer or columns.writer(self.path, self.kind)
        present = sorted(set(rows.subjects))
        places = {number: place for place, number in enumerate(present)}
        runs = array("i")
        for number, length in zip(rows.subjects, rows.lengths, strict=True):
            runs.extend(array("i", (places[number],)) * length)
        of_row = pa.Array.from_buffers(pa.int32(), len(runs), [None, pa.py_buffer(runs)])
        said = columns.subject_columns([subjects.values[number] for number in present], of_row)
        # large values are not copied together; small ones are written faster so
        val = pa.chunked_array(rows.val) if self.kind in ("map", "json") else pa.concat_arrays(rows.val)
        widths = [typed.width(subjects.metadata[number], self.event_type) for number in present] if self.kind == "delays" else []
        arrays = [pa.concat_arrays(rows.ts), val, *columns.beside(self.kind, val, widths, of_row), *said]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=columns.SCHEMAS[self.kind]), GROUP_ROWS)

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
