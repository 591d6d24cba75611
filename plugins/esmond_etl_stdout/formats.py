"""Datapoints as lines: a table, CSV, JSON lines."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from operator import gt
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from rich.cells import cell_len, set_cell_size

from esmond_etl import BASE, Batch, Series
from esmond_etl_stdout.spool import Spool

#: What CSV and JSON lines say of a datapoint, after `ts` and `val`.
COLUMNS: Final = (
    "metadata_key",
    "event_type",
    "summary",
    "source",
    "destination",
    "measurement_agent",
    "tool_name",
    "input_source",
    "input_destination",
    "parameters",
)

#: What a table says of a datapoint, between `time` and `val`.
TABLE_COLUMNS: Final = ("event_type", "source", "destination", "tool")

#: A value in a table is cut to this width.
WIDEST: Final = 60


class Format(ABC):
    """One way to write the datapoints of one task as lines."""

    @abstractmethod
    def lines(self, batch: Batch) -> bytes:
        """What to keep of `batch` until the task is printed; called from several threads."""

    def heading(self) -> bytes:
        """The heading, before the first line."""
        return b""

    def printed(self, series: Sequence[Series], spool: Spool, widths: list[int]) -> Iterator[bytes]:
        """Whole lines of what was kept of `series`, one after the other; below a heading if it is the first task.

        `widths` are those of the columns printed so far by all tasks, none at first; it is brought up to date.
        """
        if not widths:
            yield self.heading()
            widths[:] = [0]
        for each in series:
            yield from spool.pieces(each)


def described(series: Series) -> dict[str, Any]:
    """The columns that are the same for all datapoints of a series."""
    metadata = series.metadata
    own = {"metadata_key": metadata.key, "event_type": series.event_type, "summary": str(series.summary)}
    return {name: own[name] if name in own else getattr(metadata, name) for name in COLUMNS}


def json_texts(batch: Batch) -> list[bytes]:
    """The values as JSON, each on one line."""
    if batch.is_json:
        texts = [text.encode() for text in batch.val.to_pylist()]
        return [msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text for text in texts]
    values = batch.values()
    if pa.types.is_map(batch.val.type):
        values = [value if value is None else dict(value) for value in values]
    encode = msgspec.json.Encoder().encode
    return [encode(value) for value in values]


class JsonLines(Format):
    """One JSON object a line."""

    def lines(self, batch: Batch) -> bytes:
        """The lines of `batch`, as they are printed."""
        rest = msgspec.json.encode(described(batch.series))[1:]
        rows = zip(batch.seconds, json_texts(batch), strict=True)
        return b"".join([b'{"ts":%d,"val":%b,%b\n' % (ts, val, rest) for ts, val in rows])


class Csv(Format):
    """Comma-separated values: numbers as they are, any other value as its JSON text."""

    def heading(self) -> bytes:
        """The names of the columns."""
        return _csv([("ts", "val", *COLUMNS)])

    def lines(self, batch: Batch) -> bytes:
        """The lines of `batch`, as they are printed."""
        columns = described(batch.series)
        columns["parameters"] = msgspec.json.encode(columns["parameters"]).decode()
        rest = tuple(columns.values())
        values = [text.decode() for text in json_texts(batch)]
        return _csv((ts, val, *rest) for ts, val in zip(batch.seconds, values, strict=True))


def _csv(rows: Iterable[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


class Table(Format):
    """Aligned columns, as wide as the tasks so far need them."""

    def __init__(self) -> None:
        self._digits: dict[Series, int] = {}  #: width of a series' widest number

    def lines(self, batch: Batch) -> bytes:
        """Time and value, a line each: all else is the same all over the series."""
        values = [_cell(text.decode().removesuffix(".0")) for text in json_texts(batch)]
        if not batch.is_json:
            self._digits[batch.series] = max(self._digits.get(batch.series, 3), *map(len, values), 0)
        times = pc.strftime(batch.ts, "%Y-%m-%dT%H:%M:%SZ").to_pylist()
        return "".join([f"{time}\t{value}\n" for time, value in zip(times, values, strict=True)]).encode()

    def printed(self, series: Sequence[Series], spool: Spool, widths: list[int]) -> Iterator[bytes]:
        """The lines, below a heading if it is the first task or needs wider columns than those before it; nothing of no datapoints."""
        rows = {each: _cells(each) for each in series if spool.holds(each)}
        if not rows:
            return
        digits = max(self._digits.get(each, 0) for each in rows)
        needed = [*(max(map(cell_len, column)) for column in zip(TABLE_COLUMNS, *rows.values(), strict=True)), digits]
        if not widths or any(map(gt, needed, widths)):
            above = b"\n" if widths else b""
            widths[:] = map(max, needed, widths or needed)
            yield above + f"{'time':20}  {_aligned(TABLE_COLUMNS, widths)}  {'val':>{widths[-1]}}\n".encode()
        for each, cells in rows.items():
            between, width = _aligned(cells, widths), widths[-1] if each in self._digits else 0
            for piece in spool.pieces(each):
                lines = (line.split("\t") for line in piece.decode().splitlines())
                yield "".join([f"{time}  {between}  {value:>{width}}\n" for time, value in lines]).encode()


def _cells(series: Series) -> tuple[str, ...]:
    metadata = series.metadata
    name = series.event_type if series.summary == BASE else f"{series.event_type} {series.summary}"
    return tuple(_cell(each or "-") for each in (name, metadata.source, metadata.destination, metadata.tool_name))


def _cell(text: str) -> str:
    """A text as one cell: nothing in it that a terminal would obey, and not too long."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _aligned(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=False))


FORMATS: Final[dict[str, type[Format]]] = {"table": Table, "csv": Csv, "jsonl": JsonLines}
