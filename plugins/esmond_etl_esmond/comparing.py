"""The data in the target against the data that should be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Reject
from esmond_etl.client.reading import Reader
from esmond_etl_esmond import values
from esmond_etl_esmond.bulk import Column, Slot


@dataclass
class Tally:
    """The numbers of datapoints by result."""

    written: int = 0
    unchanged: int = 0
    guessed: int = 0  #: of the written ones, percentages whose weight is a guess
    repeated: int = 0  #: of the unchanged ones, those equal to another datapoint of the source in the same second
    mixed: int = 0  #: of metadata that are merged with others in the target
    rejected: list[Reject] = field(default_factory=list)

    def reject(self, column: Column, mask: pa.Array, reasons: Sequence[str]) -> None:
        """Reject the datapoints where `mask` is true, each with a reason."""
        out = column.only(mask)
        rows = zip(out.ts.to_pylist(), out.val.to_pylist(), reasons, strict=True)
        self.rejected += [Reject(column.source, ts, values.shown(val), reason) for ts, val, reason in rows]


@dataclass
class Comparison:
    """Reads the target, and counts the result of each datapoint in a tally."""

    reader: Reader
    tally: Tally
    conflicts: set[Slot] = field(default_factory=set)  #: places where the target said that it has a value already

    def missing(self, columns: Sequence[Column], is_first: bool = False) -> list[Column]:
        """The part of `columns` that the target lacks; datapoints that it has are counted, or rejected if it has another value.

        With `is_first`, nothing was sent before.
        """
        compared = (self._compare(column, is_first) for column in columns)
        return [column for column in compared if len(column)]

    def look(self, columns: Sequence[Column]) -> list[tuple[pa.Array, pa.Array]]:
        """`ts` and `val` of the target's datapoints in the span of each column; nothing is counted."""
        return [self._read(column) for column in columns]

    def _compare(self, column: Column, is_first: bool) -> Column:
        ts, val = self._read(column)
        where = pc.index_in(column.ts, value_set=ts)
        seen = pc.is_valid(where)
        mine, theirs = column.only(seen), val.take(where.filter(seen))
        equal = values.same(mine.val, theirs)
        self._count(mine.only(equal), is_first)
        if not pc.all(equal).as_py():
            differs = pc.invert(equal)
            held = map(values.shown, theirs.filter(differs).to_pylist())
            self.tally.reject(mine, differs, [f"the archive holds {_short(each)} at that time" for each in held])
        return column.only(pc.invert(seen))

    def _read(self, column: Column) -> tuple[pa.Array, pa.Array]:
        batches = list(self.reader.datapoints(column.target, column.span))
        if not batches:
            none = pa.nulls(0, pa.int64())
            return none, column.val[:0]
        return pa.concat_arrays([each.ts.cast(pa.int64()) for each in batches]), pa.concat_arrays([each.val for each in batches])

    def _count(self, column: Column, is_first: bool) -> None:
        if is_first:
            self.tally.unchanged += len(column)
            return
        others = sum((column.event_type, ts) in self.conflicts for ts in column.ts.to_pylist()) if self.conflicts else 0
        self.tally.unchanged += others
        self.tally.written += len(column) - others
        if column.guessed is not None:
            self.tally.guessed += pc.sum(column.guessed).as_py() or 0


def are_there(columns: Sequence[Column], looks: Sequence[tuple[pa.Array, pa.Array]]) -> bool:
    """Whether the target has a value at each `ts` of `columns`."""
    found = (pc.all(pc.is_in(column.ts, ts)).as_py() for column, (ts, _) in zip(columns, looks, strict=True))
    return all(each is not False for each in found)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
