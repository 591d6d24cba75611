"""Rows of many series, gathered before they are written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Final, NamedTuple

import pyarrow as pa

from esmond_etl.model.columns import NUMBER, TS, int_column
from esmond_etl.model.series import Metadata
from esmond_etl.tables import columns, typed
from esmond_etl.tables.columns import VAL, Layout

#: Rows, and bytes, per row group of a Parquet file.
GROUP_ROWS: Final = 65536
GROUP_BYTES: Final = 8 << 20


@dataclass
class Subjects:
    """The descriptions of series, each with a small number; for all partitions of a load."""

    values: list[tuple[str | None, ...]] = field(default_factory=list)
    metadata: list[Metadata] = field(default_factory=list)
    numbers: dict[tuple[str | None, ...], int] = field(default_factory=dict)  #: by values

    def number(self, metadata: Metadata) -> int:
        """The number of the subject that `metadata` describes; a transform may describe some series of a key differently."""
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
        """Whether this many more rows and bytes fit into the same row group."""
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

    def table(self, subjects: Subjects, layout: Layout, event_type: str) -> pa.Table:
        """The rows with all their columns; the schema is that of `layout`."""
        present = sorted(set(self.subjects))
        places = {number: place for place, number in enumerate(present)}
        runs = array("i")
        for number, length in zip(self.subjects, self.lengths, strict=True):
            runs.extend(array("i", (places[number],)) * length)
        of_row = int_column(runs)
        said = columns.subject_columns([subjects.values[number][: len(layout.subject)] for number in present], of_row)
        # copying pays for small values, but not for large ones
        val = pa.chunked_array(self.val) if layout.kind in ("map", "json") else pa.concat_arrays(self.val)
        widths = [typed.width(subjects.metadata[number], event_type) for number in present] if layout.kind == "delays" else []
        arrays = [pa.concat_arrays(self.ts), val, *columns.beside(layout.kind, val, widths, of_row), *said]
        return pa.Table.from_arrays(arrays, schema=columns.SCHEMAS[layout])


class Block(NamedTuple):
    """Rows that were spilled to a file."""

    subjects: array[int]
    lengths: array[int]
    place: int
    size: int
    rows: int
    bytes: int


@dataclass
class Gathered:
    """Rows of one event type, in memory or spilled to a file."""

    layout: Layout
    event_type: str
    rows: Rows = field(default_factory=Rows)
    blocks: list[Block] = field(default_factory=list)

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
        schema = pa.schema([("ts", TS), ("val", VAL[self.layout.kind])])
        batch = pa.ipc.read_record_batch(pa.py_buffer(spill.read(block.size)), schema)
        return Rows(block.subjects, block.lengths, [batch.column(0)], [batch.column(1)], block.rows, block.bytes)

    def groups(self, spill: IO[bytes] | None) -> Iterator[Rows]:
        """All rows, in as few tables as fit into memory."""
        gathered = Rows()
        for rows in self._parts(spill):
            if gathered.count and not gathered.has_room(rows.count, rows.bytes):
                yield gathered
                gathered = Rows()
            gathered.extend(rows)
        if gathered.count:
            yield gathered

    def _parts(self, spill: IO[bytes] | None) -> Iterator[Rows]:
        if spill is not None:
            yield from (self._fetch(block, spill) for block in self.blocks)
        yield self.rows.sorted()
