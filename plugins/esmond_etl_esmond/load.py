"""The delivery of one task to an archive: each metadata is sent as soon as all of its series have ended."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import (
    BASE,
    EQUAL_IN_A_SECOND,
    NUMBER,
    ArchiveError,
    Batch,
    Load,
    Metadata,
    Receipt,
    Reject,
    Series,
    SinkError,
    Source,
    StatusError,
    Task,
)
from esmond_etl.client.reading import Reader
from esmond_etl_esmond import values
from esmond_etl_esmond.bulk import Column
from esmond_etl_esmond.comparing import Tally
from esmond_etl_esmond.delivery import Delivery
from esmond_etl_esmond.target import Place, Target

#: A percentage -> the event types of its two counts.
COUNTS: Final = {
    "packet-loss-rate": ("packet-count-lost", "packet-count-sent"),
    "packet-loss-rate-bidir": ("packet-count-lost-bidir", "packet-count-sent"),
}

#: The data types for which an archive refuses a second value at one `ts`; it replaces values of other types.
CHECKED: Final = frozenset({"integer", "float", "percentage"})

#: `ts` and `val` of a series.
Points = tuple[pa.Array, pa.Array]


class EsmondLoad(Load):
    """The delivery of a task's datapoints to the target."""

    def __init__(self, task: Task, target: Target, reader: Reader, source: Source | None) -> None:
        self._task, self._target, self._reader, self._source = task, target, reader, source
        self._lock = threading.Lock()
        self._metadata: dict[str, Metadata] = {}  # not delivered yet, by key
        self._waiting: dict[str, set[Series]] = {}  # metadata key -> its series that have not ended
        for series in task.series:
            self._know(series.metadata)
            self._waiting.setdefault(series.metadata.key, set()).add(series)
        self._batches: dict[Series, list[Batch]] = {}
        self._ended: dict[str, list[Series]] = {key: [] for key in self._metadata}
        self._tallies: list[Tally] = []
        self._failure: Exception | None = None

    def _know(self, metadata: Metadata) -> None:
        """Join the metadata of the series under one key: all event types are posted together.

        Raises SinkError if a transform has made two metadata of one.
        """
        known = self._metadata.setdefault(metadata.key, metadata)
        if known is not metadata and {**known.to_json(), "event-types": []} != {**metadata.to_json(), "event-types": []}:
            raise SinkError(
                f"{metadata.key}: a transform changes the metadata of some of its event types alone, and an archive keeps all of them "
                "under one: leave out the transform's `event_types`"
            )
        if known is not metadata and metadata.event_types.keys() - known.event_types.keys():
            self._metadata[metadata.key] = replace(known, event_types={**known.event_types, **metadata.event_types})

    def write(self, batch: Batch) -> None:
        """Keep `batch` until its series has ended."""
        with self._lock:
            self._batches.setdefault(batch.series, []).append(batch)

    def end(self, series: Series) -> None:
        """Deliver the metadata if this was their last series; raises SinkError if the target refuses them."""
        key = series.metadata.key
        with self._lock:
            self._know(series.metadata)
            self._ended.setdefault(key, []).append(series)
            waiting = self._waiting.get(key, {series})
            waiting.discard(series)
            if waiting or key not in self._waiting:
                return
        self._deliver(key)

    def commit(self) -> Receipt:
        """Deliver the metadata of which not all series have ended, and return the result of all datapoints."""
        for key in list(self._metadata):
            self._deliver(key)
        rejected = [reject for tally in self._tallies for reject in tally.rejected]
        remarks = {
            "percentages of uncertain weight": sum(tally.guessed for tally in self._tallies),
            EQUAL_IN_A_SECOND: sum(tally.repeated for tally in self._tallies),
            "datapoints of metadata that are one in the target, as they differ in nothing that it looks at": sum(
                tally.mixed for tally in self._tallies
            ),
        }
        return Receipt(
            sum(tally.written for tally in self._tallies),
            sum(tally.unchanged for tally in self._tallies),
            rejected,
            {remark: count for remark, count in remarks.items() if count},
        )

    def rollback(self) -> None:
        """Forget what has not been sent; what was sent is found unchanged when the task is delivered again."""
        with self._lock:
            self._batches.clear()
            self._metadata.clear()

    def _deliver(self, key: str) -> None:
        """Deliver one metadata, once."""
        with self._lock:
            metadata = self._metadata.pop(key, None)
            points = {series: self._batches.pop(series, []) for series in self._ended.pop(key, ())}
            self._waiting.pop(key, None)
            if metadata is None:
                return
            if self._failure:
                raise SinkError(str(self._failure))
        try:
            tally = self._delivered(metadata, points)
        except ArchiveError as error:
            self._failure = error
            raise SinkError(str(error)) from error
        with self._lock:
            self._tallies.append(tally)

    def _delivered(self, metadata: Metadata, batches: Mapping[Series, list[Batch]]) -> Tally:
        tally = Tally()
        place = self._target.place(metadata)
        points = {series: _points(series, parts, tally) for series, parts in batches.items() if parts}
        columns = [column for series in points if (column := self._column(series, points, place, tally))]
        if not columns:
            return tally
        with place.lock:
            delivery = Delivery(self._target, self._reader, place, self._task.interval, tally)
            for kind in (True, False):
                chosen = [column for column in columns if (column.source.data_type in CHECKED) is kind]
                delivery.deliver(chosen)
        if len(place.sources) > 1:
            tally.mixed = sum(map(len, columns))
        return tally

    def _column(self, series: Series, points: Mapping[Series, Points], place: Place, tally: Tally) -> Column | None:
        """The datapoints of one series that can be posted; the others are rejected."""
        ts, val = points[series]
        if reason := _no_home(series, place):
            tally.rejected += _rejects(series, ts, val, [reason] * len(ts))
            return None
        guessed = None
        if series.data_type == "percentage":
            lost, sent = (self._counts(series, name, ts, points) for name in COUNTS.get(series.event_type, ("", "")))
            texts, guessed = values.fractions(val, lost, sent)
        else:
            texts = values.texts(series.data_type, val)
        assert place.metadata is not None  # otherwise the target has no series for it
        column = Column(series, Series(place.metadata, series.event_type), ts, val, texts, guessed)
        return _possible(column, tally)

    def _counts(self, series: Series, name: str, ts: pa.Array, points: Mapping[Series, Points]) -> pa.Array:
        """The counts named `name` beside `series` at `ts`, null where there are none: the task's own, else the source's."""
        sibling = Series(series.metadata, name)
        known = points.get(sibling) or self._from_source(sibling, ts)
        if known is None:
            return pa.nulls(len(ts), NUMBER)
        return known[1].take(pc.index_in(ts, value_set=known[0]))

    def _from_source(self, series: Series, ts: pa.Array) -> Points | None:
        if self._source is None or series.event_type not in series.metadata.event_types or not len(ts):
            return None
        try:
            batches = list(self._source.read(series, self._task.interval))
        except StatusError as error:
            if error.status >= 500:
                raise
            return None  # the source does not serve them
        return _points(series, batches, Tally()) if batches else None


def _no_home(series: Series, place: Place) -> str:
    """Why the target cannot hold `series`, or ""."""
    if place.metadata is None:
        return place.refused
    if BASE not in place.metadata.event_types.get(series.event_type, {}):
        return f"the archive does not know the event type {series.event_type!r}"
    return ""


def _points(series: Series, batches: Iterable[Batch], tally: Tally) -> Points:
    """The batches of a series as one; where it has several values in one second, the first is kept."""
    batches = list(batches)
    ts = pa.concat_arrays([batch.ts.cast(pa.int64()) for batch in batches])
    val = pa.concat_arrays([values.column(batch.val, series.holds_numbers) for batch in batches])
    if len(ts) < 2 or not pc.any(pc.equal(ts[1:], ts[:-1])).as_py():
        return ts, val
    first = pc.index_in(ts, value_set=ts)
    firsts = pc.equal(first, _count(len(ts)))
    repeated = pc.invert(firsts)
    again, before = val.filter(repeated), val.take(first.filter(repeated))
    same = values.same(again, before)
    repeats = pc.sum(same).as_py() or 0
    tally.unchanged += repeats
    tally.repeated += repeats
    other = pc.invert(same)
    kept = map(values.shown, before.filter(other).to_pylist())
    reasons = [f"the source has another value in that second, which is kept: {each[:200]}" for each in kept]
    tally.rejected += _rejects(series, ts.filter(repeated).filter(other), again.filter(other), reasons)
    return ts.filter(firsts), val.filter(firsts)


def _count(length: int) -> pa.Array:
    return pc.subtract(pc.cumulative_sum(pc.fill_null(pa.nulls(length, pa.int32()), 1)), 1)


def _possible(column: Column, tally: Tally) -> Column | None:
    """The datapoints of `column` that can be posted; the others are rejected."""
    if column.text.null_count:
        impossible = column.only(pc.is_null(column.text))
        reasons = [values.fault(column.source.data_type, value) for value in impossible.val.to_pylist()]
        tally.rejected += _rejects(column.source, impossible.ts, impossible.val, reasons)
        column = column.only(pc.is_valid(column.text))
    return column if len(column) else None


def _rejects(series: Series, ts: pa.Array, val: pa.Array, reasons: Iterable[str]) -> Iterable[Reject]:
    rows = zip(ts.to_pylist(), val.to_pylist(), reasons, strict=True)
    return [Reject(series, ts, values.shown(val), reason) for ts, val, reason in rows]
