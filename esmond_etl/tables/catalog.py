"""The table of metadata beside the datapoints: one row per key."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model.columns import TS, int_column, text_column
from esmond_etl.model.interval import IntervalSet
from esmond_etl.model.series import Metadata, Series, SeriesId, Served, Summary
from esmond_etl.tables.columns import subject_values

#: The columns of a metadata key that are texts; the SQL sink has the same.
TEXTS: Final = (
    "metadata_key",
    "subject_type",
    "source",
    "destination",
    "measurement_agent",
    "tool_name",
    "input_source",
    "input_destination",
)

SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("parameters", pa.map_(pa.string(), pa.string())),  # a text as it is, anything else as JSON text
        ("parameters_json", pa.string()),  # exactly as the archive had them
        ("event_types", pa.map_(pa.string(), pa.list_(pa.string()))),  # with the summaries of each, such as "average/86400"
        ("first_seen", TS),  # ts of the earliest and of the latest datapoint ever delivered; null if there was none
        ("last_seen", TS),
        ("others", pa.map_(pa.string(), pa.string())),  # series that a transform describes differently -> their metadata, as JSON
        # series -> the time that has been delivered, Unix time: a ledger that is lost is rebuilt from it
        ("delivered", pa.map_(pa.string(), pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64())])))),
    ]
)


_NOWHERE: Final = Served("")


class Seen(NamedTuple):
    """The number and the time range of the rows of a series, or of a metadata key."""

    rows: int = 0
    first: int | None = None
    last: int | None = None

    def with_rows(self, rows: int, first: int | None, last: int | None) -> Seen:
        """The same with `rows` more."""
        if self.first is None or self.last is None or first is None or last is None:
            return Seen(self.rows + rows, first if self.first is None else self.first, last if self.last is None else self.last)
        return Seen(self.rows + rows, min(self.first, first), max(self.last, last))


NOTHING: Final = Seen()


class Entry(NamedTuple):
    """One row of the table."""

    metadata: Metadata
    seen: Seen
    others: Mapping[str, Metadata] = {}  #: of series that a transform describes differently, by `name_of`
    delivered: Mapping[str, IntervalSet] = {}  #: by `name_of`

    def series(self) -> Iterator[Series]:
        """Every series of the key, each with its metadata."""
        for series in self.metadata.series():
            other = self.others.get(name_of(series))
            yield series.replace(metadata=_with_event_types(other, self.metadata.event_types)) if other else series


def name_of(series: Series) -> str:
    """The name of a series within its key."""
    return f"{series.event_type}/{series.summary}"


def delivered(table: pa.Table) -> dict[SeriesId, IntervalSet]:
    """The time that has been delivered, of every series in a table."""
    return {
        SeriesId(entry.metadata.key, *name.split("/", 1)): intervals
        for entry in entries(table)
        for name, intervals in entry.delivered.items()
    }


def updated(old: pa.Table, delivered: Mapping[Series, IntervalSet], seen: Mapping[Series, Seen]) -> pa.Table:
    """The rows of the keys in `delivered` after the delivery; `old` has at least the earlier rows of these keys."""
    by_key: dict[str, list[Series]] = {}
    for series in delivered:
        by_key.setdefault(series.metadata.key, []).append(series)
    new = {key: _entry(under, delivered, seen) for key, under in by_key.items()}
    for entry in entries(old.filter(of_keys(old, list(new)))):
        key = entry.metadata.key
        new[key] = _merged(entry, new[key], by_key[key])
    return _rows(list(new.values()))


def replaced(old: pa.Table, delivered: Mapping[Series, IntervalSet], seen: Mapping[Series, Seen]) -> pa.Table | None:
    """The whole table after a delivery, in the order of its keys; None if it stays the same."""
    rows = updated(old, delivered, seen).sort_by("metadata_key")
    is_new = of_keys(old, rows.column("metadata_key").to_pylist())
    if rows.equals(old.filter(is_new).combine_chunks().sort_by("metadata_key")):
        return None
    return pa.concat_tables([old.filter(pc.invert(is_new)), rows]).sort_by("metadata_key")


def of_keys(table: pa.Table, keys: Sequence[str]) -> pa.ChunkedArray:
    """A mask: for each row whether it belongs to one of `keys`."""
    return pc.is_in(table.column("metadata_key"), value_set=text_column(keys))


def completed(table: pa.Table) -> pa.Table:
    """A table of an older version, with today's columns."""
    for name in ("others", "delivered"):
        if name not in table.schema.names:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    return table.select(SCHEMA.names).cast(SCHEMA)


def _entry(under: Sequence[Series], delivered: Mapping[Series, IntervalSet], seen: Mapping[Series, Seen]) -> Entry:
    """The row of a key under which `under` were delivered."""
    metadata, total = _most_common([series.metadata for series in sorted(under, key=name_of)]), NOTHING
    event_types = {name: dict.fromkeys(summaries, _NOWHERE) for name, summaries in metadata.event_types.items()}
    for series in under:
        event_types.setdefault(series.event_type, {})[series.summary] = _NOWHERE  # a transform may have made it up
        total = total.with_rows(*seen.get(series, NOTHING))
    others = _others(metadata, {name_of(each): each.metadata for each in under})
    return Entry(_with_event_types(metadata, event_types), total, others, {name_of(each): delivered[each] for each in under})


def _most_common(described: Sequence[Metadata]) -> Metadata:
    said = {id(metadata): subject_values(metadata) for metadata in described}
    if len(said) == 1:
        return described[0]
    most = Counter(said[id(metadata)] for metadata in described).most_common(1)[0][0]
    return next(metadata for metadata in described if said[id(metadata)] == most)


def _others(metadata: Metadata, described: Mapping[str, Metadata]) -> dict[str, Metadata]:
    """The metadata of series, by name, that differ from `metadata`."""
    own = subject_values(metadata)
    return {name: other for name, other in described.items() if other is not metadata and subject_values(other) != own}


def _with_event_types(metadata: Metadata, event_types: Mapping[str, Mapping[Summary, Served]]) -> Metadata:
    return Metadata(
        metadata.key,
        metadata.subject_type,
        metadata.source,
        metadata.destination,
        metadata.measurement_agent,
        metadata.tool_name,
        metadata.input_source,
        metadata.input_destination,
        metadata.parameters,
        event_types,
    )


def _merged(old: Entry, new: Entry, under: Iterable[Series]) -> Entry:
    """The row of a key of which `under` were delivered now; the other series keep what they had."""
    before = {name_of(series): series.metadata for series in old.series()}
    now = {name_of(series): new.others.get(name_of(series), new.metadata) for series in under}
    event_types = {name: dict(summaries) for name, summaries in old.metadata.event_types.items()}
    for name, summaries in new.metadata.event_types.items():
        event_types.setdefault(name, {}).update(summaries)
    seen = new.seen.with_rows(0, old.seen.first, old.seen.last)
    delivered = {name: intervals.union(old.delivered.get(name, ())) for name, intervals in new.delivered.items()}
    return Entry(
        _with_event_types(new.metadata, event_types), seen, _others(new.metadata, {**before, **now}), {**old.delivered, **delivered}
    )


def _rows(entries: Sequence[Entry]) -> pa.Table:
    texts = [[getattr(entry.metadata, _field(name)) for entry in entries] for name in TEXTS]
    parameters = [dict(entry.metadata.parameters) for entry in entries]
    event_types = [
        {name: sorted(map(str, summaries)) for name, summaries in sorted(entry.metadata.event_types.items())} for entry in entries
    ]
    delivered = [dict(sorted(entry.delivered.items())) for entry in entries]
    arrays = [
        *map(_nullable, texts),
        _map(parameters, text_column([_text(value) for each in parameters for value in each.values()])),
        text_column([msgspec.json.encode(each).decode() for each in parameters]),
        _map(event_types, _lists([summaries for each in event_types for summaries in each.values()])),
        _moments([entry.seen.first for entry in entries]),
        _moments([entry.seen.last for entry in entries]),
        _map(
            [entry.others for entry in entries],
            text_column([_described(each) for entry in entries for each in entry.others.values()]),
        ),
        _map(delivered, _intervals([intervals for each in delivered for intervals in each.values()])),
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _described(metadata: Metadata) -> str:
    return msgspec.json.encode({**metadata.to_json(), "event-types": []}).decode()


def _field(column: str) -> str:
    return "key" if column == "metadata_key" else column


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _offsets(lengths: Iterable[int]) -> pa.Array:
    offsets = array("i", [0])
    for length in lengths:
        offsets.append(offsets[-1] + length)
    return int_column(offsets)


def _map(objects: Sequence[Mapping[str, Any]], items: pa.Array) -> pa.Array:
    return pa.MapArray.from_arrays(_offsets(map(len, objects)), text_column([name for each in objects for name in each]), items)


def _lists(lists: Sequence[Sequence[str]]) -> pa.Array:
    return pa.ListArray.from_arrays(_offsets(map(len, lists)), text_column([text for each in lists for text in each]))


def _intervals(sets: Sequence[IntervalSet]) -> pa.Array:
    bounds = (array("q", [each[place] for intervals in sets for each in intervals]) for place in (0, 1))
    columns = [pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)]) for values in bounds]
    return pa.ListArray.from_arrays(_offsets(map(len, sets)), pa.StructArray.from_arrays(columns, ["start", "end"]))


def _present(values: Sequence[object]) -> pa.Array:
    flags = pa.py_buffer(bytes(value is not None for value in values))
    return pa.Array.from_buffers(pa.uint8(), len(values), [None, flags]).cast(pa.bool_())


def _nullable(values: Sequence[str | None]) -> pa.Array:
    return pc.if_else(_present(values), text_column([value or "" for value in values]), pa.scalar(None, pa.string()))


def _moments(values: Sequence[int | None]) -> pa.Array:
    moments = array("q", [value or 0 for value in values])
    column = pa.Array.from_buffers(TS, len(moments), [None, pa.py_buffer(moments)])
    return pc.if_else(_present(values), column, pa.scalar(None, TS))


def entries(table: pa.Table) -> Iterator[Entry]:
    """Every row of a table."""
    moments = {name: table.column(name).cast(pa.int64()).to_pylist() for name in ("first_seen", "last_seen")}
    rows = table.drop_columns(["parameters", *moments]).to_pylist()
    for row, first, last in zip(rows, moments["first_seen"], moments["last_seen"], strict=True):
        metadata = Metadata(
            **{_field(name): row[name] for name in TEXTS},
            parameters=msgspec.json.decode(row["parameters_json"]),
            event_types={
                name: {Summary.parse(summary): _NOWHERE for summary in summaries} for name, summaries in row["event_types"]
            },
        )
        others = {
            name: Metadata.from_json({**msgspec.json.decode(text), "metadata-key": metadata.key})
            for name, text in row["others"] or ()
        }
        delivered = {name: IntervalSet.of((each["start"], each["end"]) for each in found) for name, found in row["delivered"] or ()}
        yield Entry(metadata, Seen(0, first, last), others, delivered)
