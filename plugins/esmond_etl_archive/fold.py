"""The datapoints of one request: base values, and the summaries that they change."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from esmond_etl import EVENT_TYPES, DataType
from esmond_etl_archive.refusal import Conflict, Refused
from esmond_etl_archive.statistics import statistics
from esmond_etl_archive.values import FRACTIONS, add_histogram, base_text, datapoint_text, histogram, number_text, text, time_of

_ROWS = """
SELECT event_type, series.id, summary_type, summary_window FROM series JOIN metadata ON metadata.id = series.metadata
WHERE key = ? ORDER BY event_type, summary_type != 'base'
"""
_AT = "FROM datapoint WHERE series = ? AND ts IN (SELECT value FROM json_each(?))"
_TIMES, _NUMBERS, _TEXTS = f"SELECT ts {_AT}", f"SELECT ts, numerator, denominator {_AT}", f"SELECT ts, json {_AT}"
_WRITE = "INSERT OR REPLACE INTO datapoint (series, ts, json, numerator, denominator) VALUES (?, ?, ?, ?, ?)"


class Point(NamedTuple):
    """One value to be written."""

    ts: Any
    event_type: str
    value: Any


class Row(NamedTuple):
    """One series of the metadata that is written to."""

    id: int
    data_type: DataType
    summary_type: str
    window: int  #: s

    def bin(self, ts: int) -> int:
        """The time at which this series keeps a value of `ts`."""
        return ts - ts % self.window if self.window else ts


class Fold:
    """Collects the datapoints of one request, and writes them all at once."""

    def __init__(self, db: sqlite3.Connection, key: str, times: Iterable[int], known: dict[int, set[int]] | None = None) -> None:
        """`known` are the times that existed before the request; None: look now."""
        self._db = db
        self._times = text(list(times)).decode()
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)
        for name, *rest in db.execute(_ROWS, (key,)):
            self._rows[name].append(Row(rest[0], EVENT_TYPES[name].data_type, rest[1], rest[2]))
        self._taken: dict[int, set[int]] = {} if known is None else known
        self._adds = known is not None  # times that other requests have written meanwhile
        self._numbers: defaultdict[Row, dict[int, tuple[int, int]]] = defaultdict(dict)
        self._histograms: defaultdict[Row, dict[int, dict[str, int]]] = defaultdict(dict)
        self._statistics: dict[Row, Row] = {}  # an aggregation -> the statistics that are made of it
        self._texts: defaultdict[Row, dict[int, str]] = defaultdict(dict)
        self._written: set[Row] = set()

    def existing(self) -> dict[int, set[int]]:
        """Id of each base series of the metadata -> those of the times at which it has a datapoint."""
        bases = [rows[0].id for rows in self._rows.values()]
        return {base: {ts for (ts,) in self._db.execute(_TIMES, (base, self._times))} for base in bases}

    def add(self, point: Point) -> None:
        """Add one datapoint; it is dropped if the metadata do not declare its event type.

        Raises Refused for an invalid value, and then adds nothing.
        """
        name = point.event_type
        if not isinstance(name, str) or name not in EVENT_TYPES:
            raise Refused(f"Invalid event type {name}")
        ts = time_of(point.ts)
        if rows := self._rows.get(name):
            data_type = rows[0].data_type
            if data_type in FRACTIONS:
                self._refuse_twice(rows[0], name, ts)
                self._add_number(rows, ts, *FRACTIONS[data_type](point.value))
            elif data_type == "histogram":
                self._add_histogram(rows, ts, histogram(point.value))
            else:
                self._texts[rows[0]][ts] = base_text(data_type, point.value)
            self._written.update(rows)

    def write(self, now: int) -> None:
        """Write the datapoints, and the summaries that they change."""
        for row, fractions in self._numbers.items():
            self._write_numbers(row, fractions)
        for row, counts in self._histograms.items():
            self._write_histograms(row, counts)
        for row, texts in self._texts.items():
            self._write(row, [(ts, value, None, None) for ts, value in texts.items()])
        self._db.executemany("UPDATE series SET time_updated = ? WHERE id = ?", [(now, row.id) for row in self._written])

    def _refuse_twice(self, base: Row, name: str, ts: int) -> None:
        """Only earlier datapoints are a conflict: one time twice in a request adds up."""
        if base.id not in self._taken:
            self._taken[base.id] = {ts for (ts,) in self._db.execute(_TIMES, (base.id, self._times))}
        if ts in self._taken[base.id]:
            raise Conflict(f"Time series value already exists with event type {name} at time {ts}")

    def _add_number(self, rows: Sequence[Row], ts: int, numerator: int, denominator: int) -> None:
        for row in rows:
            at = row.bin(ts)
            n, d = self._numbers[row].get(at, (0, 0))
            self._numbers[row][at] = n + numerator, d + denominator

    def _add_histogram(self, rows: Sequence[Row], ts: int, counts: dict[str, int]) -> None:
        aggregations = {row.window: row for row in rows if row.summary_type == "aggregation"}
        for row in rows:
            if row.summary_type == "base":
                self._texts[row][ts] = text(counts).decode()
            elif row.summary_type == "aggregation":
                add_histogram(self._histograms[row].setdefault(row.bin(ts), {}), counts)
            elif row.window and row.window in aggregations:
                self._statistics[aggregations[row.window]] = row
            else:  # without an aggregation beside them, esmond's statistics are those of the last histogram
                self._texts[row][row.bin(ts)] = text(statistics(counts)).decode()

    def _write_numbers(self, row: Row, changes: dict[int, tuple[int, int]]) -> None:
        is_new = row.summary_type == "base" and not self._adds
        before = {} if is_new else {ts: (n, d) for ts, n, d in self._existing(_NUMBERS, row, changes)}
        points = []
        for ts, (numerator, denominator) in changes.items():
            n, d = before.get(ts, (0, 0))
            n, d = n + numerator, d + denominator
            points.append((ts, number_text(row.data_type, row.summary_type, n, d), n, d))
        self._write(row, points)

    def _write_histograms(self, row: Row, changes: dict[int, dict[str, int]]) -> None:
        """Write an aggregation, and its statistics."""
        before = {ts: json.loads(kept)["val"] for ts, kept in self._existing(_TEXTS, row, changes)}
        totals = {ts: add_histogram(before.get(ts, {}), counts) for ts, counts in changes.items()}
        self._write(row, [(ts, text(total).decode(), None, None) for ts, total in totals.items()])
        if of_it := self._statistics.get(row):
            self._write(of_it, [(ts, text(statistics(total)).decode(), None, None) for ts, total in totals.items()])

    def _existing(self, sql: str, row: Row, times: Iterable[int]) -> sqlite3.Cursor:
        return self._db.execute(sql, (row.id, text(list(times)).decode()))

    def _write(self, row: Row, points: Iterable[tuple[int, str, int | None, int | None]]) -> None:
        self._db.executemany(_WRITE, [(row.id, ts, datapoint_text(ts, val), n, d) for ts, val, n, d in points])
