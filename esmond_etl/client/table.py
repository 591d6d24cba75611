"""The measurements of an archive as one Arrow table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, Final

import msgspec
import pyarrow as pa

from esmond_etl.client.archive import Archive
from esmond_etl.client.filters import FOREVER, check_name
from esmond_etl.client.payload import opened, val_type
from esmond_etl.client.reading import Reader
from esmond_etl.client.selection import Selection, window
from esmond_etl.model.batch import Batch
from esmond_etl.model.columns import TS, text_column
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.event_types import meant_event_type
from esmond_etl.model.interval import Interval, parse_moment
from esmond_etl.model.series import SUBJECT_COLUMNS, Metadata, Series, Summary

Moment = int | str | date

#: The columns after `ts` and `val`: those of the Parquet sink, including the ones in the names of its folders.
SUBJECT: Final = (*SUBJECT_COLUMNS, "event_type", "summary")


def read(
    url: str | Archive,
    event_type: str | Iterable[str],
    source: str | None = None,
    destination: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    summaries: str | Iterable[str] = "base",
    batches: bool = False,
    **filters: Any,
) -> Any:
    """The datapoints of an archive from `start` up to but without `end`, as a pyarrow.Table, those of a series in one piece, by `ts`.

    With `batches=True` it is a pyarrow.RecordBatchReader, which reads as it is iterated and holds a page at a time. The columns are those
    of the Parquet sink: `ts` (timestamp[s, UTC]), `val` (float64, map<string, int64> for histograms, else JSON text), then `metadata_key`,
    `source`, `destination`, `measurement_agent`, `tool_name`, `input_source`, `input_destination`, `parameters` (JSON text), `event_type`
    and `summary`.

    `start` and `end` are datetimes (naive ones are UTC), Unix seconds, ISO 8601 text, or ages such as "30d"; summaries are such as "base"
    or "average/86400". Event types can be read together where their values have one type. `filters` are the archive's own, with `_` for
    `-`. An Archive instead of a URL has options for authentication and TLS. Raises ArchiveError if anything could not be read, ConfigError
    if what is asked for makes no sense.
    """
    names = frozenset([event_type] if isinstance(event_type, str) else event_type)
    for name in sorted(names):
        if meant := meant_event_type(name):
            raise ConfigError(f"unknown event type {name!r}: did you mean {meant!r}?")
    for name in filters:
        check_name(name)
    wanted = _summaries(summaries)
    schema = _schema(names, wanted)
    criteria = {name.replace("_", "-"): value for name, value in filters.items()}
    criteria |= {"source": source, "destination": destination}
    selection = Selection(criteria, names, wanted, interval(start, end))
    reader = Reader(url if isinstance(url, Archive) else Archive(url))
    found = pa.RecordBatchReader.from_batches(schema, _batches(reader, selection, schema))
    return found if batches else found.read_all()


def interval(start: Moment | None, end: Moment | None) -> Interval:
    """The interval from `start` (default: always) to `end` (default: for ever); raises ConfigError if it is empty."""
    now = int(time.time())
    try:
        first = 0 if start is None else parse_moment(start, now)
        last = FOREVER if end is None else parse_moment(end, now)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if last <= first:
        raise ConfigError(f"the end ({end}) does not lie after the start ({start})")
    return Interval(first, last)


def _summaries(texts: str | Iterable[str]) -> frozenset[Summary]:
    try:
        return frozenset(Summary.parse(text) for text in ([texts] if isinstance(texts, str) else texts))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _schema(event_types: frozenset[str], summaries: frozenset[Summary]) -> pa.Schema:
    """The columns of a table; raises ConfigError if the values do not have one common type."""
    types = {(name, summary): val_type(Series(Metadata(""), name, summary)) for name in event_types for summary in summaries}
    if len(set(types.values())) != 1:
        listed = ", ".join(f"{name} {summary}: {val}" for (name, summary), val in sorted(types.items()))
        raise ConfigError(f"one table has values of one type: read these one by one: {listed or 'no event types'}")
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([("ts", TS), ("val", next(iter(types.values()))), *((name, text) for name in SUBJECT)])


def _batches(reader: Reader, selection: Selection, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for series in selection.series(selection.metadata(reader)):
        for batch in reader.datapoints(series, window(series, selection.interval)):
            yield described(opened(batch), schema)


def described(batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with the columns of its series beside every datapoint."""
    series = batch.series
    metadata = series.metadata
    own = {
        "metadata_key": metadata.key,
        "parameters": msgspec.json.encode(dict(metadata.parameters)).decode(),
        "event_type": series.event_type,
        "summary": str(series.summary),
    }
    columns = [_same(own[name] if name in own else getattr(metadata, name), len(batch)) for name in SUBJECT]
    return pa.RecordBatch.from_arrays([batch.ts, batch.val, *columns], schema=schema)


def _same(value: str | None, length: int) -> pa.DictionaryArray:
    """One value `length` times."""
    if value is None:
        return pa.nulls(length, pa.dictionary(pa.int32(), pa.string()))
    codes = pa.Array.from_buffers(pa.int32(), length, [None, pa.py_buffer(bytes(4 * length))])
    return pa.DictionaryArray.from_arrays(codes, text_column([value]))
