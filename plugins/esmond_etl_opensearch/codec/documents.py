"""From datapoints of one metadata to documents: one document for everything that was measured at one time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from operator import itemgetter, lt
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Batch, Metadata, event_type, histograms, ts_column
from esmond_etl_opensearch.codec import metadata as tests
from esmond_etl_opensearch.codec import places, values
from esmond_etl_opensearch.codec.places import FAILURES, RAW, RUN_HREF, Path

#: Unix time -> the JSON text of one field of the document of that time.
Column = dict[int, str]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_HISTOGRAMS: Final = msgspec.json.Decoder(list[dict[str, int]])

#: The values that cannot be restored from their fields.
_ORIGINALS: Final = ("esmond", "json", "values")
_RESULT: Final = ("result",)


class Refused(NamedTuple):
    """A datapoint that no document can hold."""

    event_type: str
    ts: int
    val: str  #: JSON text
    reason: str


class Document(NamedTuple):
    """One document, ready to be sent."""

    ts: int
    text: str  #: JSON, on one line


@dataclass
class Columns:
    """The fields of many documents of one test, while they are filled."""

    fields: dict[Path, Column] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    def put(self, path: Path, ts: int, text: str) -> None:
        """Set one field of the document of `ts`."""
        self.fields.setdefault(path, {})[ts] = text

    def keep(self, name: str, ts: int, text: str) -> None:
        """Keep the original value, besides the content of its field."""
        self.put((*_ORIGINALS, name), ts, text)


def documents(metadata: Metadata, batches: Mapping[str, Iterable[Batch]], refused: list[Refused]) -> Iterator[Document]:
    """The documents of one metadata, oldest first: event type -> its datapoints.

    Datapoints that no document can hold are added to `refused`, for example the second one of an event type in one second.
    """
    kind = places.test_type(metadata) or ""
    columns = Columns(refused=refused)
    given: dict[str, dict[int, Any]] = {}
    for name, each in batches.items():
        for batch in each:
            _fill(columns, kind, name, _one_a_second(columns, name, batch, given.setdefault(name, {})), given[name])
    _fill_shared(columns, given)
    moments = sorted({ts for column in columns.fields.values() for ts in column})
    _fill_success(columns, moments)
    _fill_times(columns, moments, metadata)
    yield from _assembled(tests.head(metadata, kind), columns, moments)


def _one_a_second(columns: Columns, name: str, batch: Batch, before: Mapping[int, Any]) -> Batch:
    moments = batch.seconds
    again = [later == earlier for earlier, later in pairwise((None, *moments))]
    again[:1] = [moment in before for moment in moments[:1]]
    if not any(again):
        return batch
    for is_again, ts, value in zip(again, moments, batch.val.to_pylist(), strict=True):
        if is_again:
            text = value if isinstance(value, str) else _encode(value).decode()
            columns.refused.append(Refused(name, ts, text, "a document has one value per second, and this second has one already"))
    return batch.filter(pa.array([not each for each in again]))


def _fill(columns: Columns, kind: str, name: str, batch: Batch, shared: dict[int, Any]) -> None:
    """Put the datapoints of one event type into their fields; those of shared fields are only noted in `shared`."""
    data_type = event_type(name).data_type
    if name == RUN_HREF:
        _fill_run_href(columns, batch)
    elif event_type(name).is_number:
        path = places.place(kind, name) or ()
        _fill_numbers(columns, (*_RESULT, *path), batch, whole=data_type == "integer" and name != "throughput")
    elif data_type == "histogram":
        _fill_histograms(columns, name, batch)
    else:
        shared |= {ts: _Value(text, _decode(text)) for ts, text in _known(columns, name, batch)}
        return
    shared |= dict.fromkeys(batch.seconds)


class _Value(NamedTuple):
    text: str
    value: Any


def _known(columns: Columns, name: str, batch: Batch) -> Iterator[tuple[int, str]]:
    """The times and the JSON texts of the values that are not null."""
    for ts, text in zip(batch.seconds, batch.val.to_pylist(), strict=True):
        if text is None or text == "null":
            columns.refused.append(Refused(name, ts, "null", "a document cannot hold null"))
        else:
            yield ts, text


def _fill_numbers(columns: Columns, path: Path, batch: Batch, whole: bool) -> None:
    values = batch.val.to_pylist()
    if whole:
        values = [int(each) if each is not None and each.is_integer() else each for each in values]
    column = columns.fields.setdefault(path, {})
    column |= zip(batch.seconds, _texts(values), strict=True)
    for ts in [ts for ts, text in column.items() if text == "null"]:  # also of NaN and infinity
        del column[ts]
        columns.refused.append(Refused(batch.series.event_type, ts, "null", "a document can hold only finite numbers"))


def _texts(values: list[Any]) -> list[str]:
    """The JSON texts of numbers, or of null; in one step, because there are many."""
    return _encode(values).decode()[1:-1].split(",") if values else []


def _lists(values: list[list[Any]]) -> list[str]:
    """The JSON texts of lists of numbers."""
    return [f"[{text}]" for text in _encode(values).decode()[2:-2].split("],[")] if values else []


def _fill_histograms(columns: Columns, name: str, batch: Batch) -> None:
    place, scale = places.STATISTICS[name]
    moments, texts = batch.seconds, batch.val.to_pylist()
    if not batch.is_json:
        texts = [_encode(dict(each or ())).decode() for each in texts]
    fields = [None if each is None else _tried(partial(_histogram_field, scale), each) for each in _opened(texts)]
    for ts, text, found in zip(moments, texts, fields, strict=True):
        if found is None:
            columns.refused.append(Refused(name, ts, text or "null", "it is not a histogram of buckets that are finite numbers"))
    good = [(ts, text, found) for ts, text, found in zip(moments, texts, fields, strict=True) if found is not None]
    buckets, counts = _lists([found.buckets for _, _, found in good]), _lists([found.counts for _, _, found in good])
    column = columns.fields.setdefault((*_RESULT, *place, "histogram"), {})
    for (ts, text, found), here, there in zip(good, buckets, counts, strict=True):
        column[ts] = f'{{"values":{here},"counts":{there}}}'
        if not found.names or here != f"[{found.names}]" or "e" in here:
            columns.keep(name, ts, text)
    _fill_statistics(columns, place, scale, batch, [found is not None for found in fields])


class _Histogram(NamedTuple):
    buckets: list[float]  #: ascending
    counts: list[int]
    names: str  #: of the buckets, as esmond writes them; "" if they follow from the numbers


def _histogram_field(scale: float, value: Mapping[str, int]) -> _Histogram:
    buckets = list(map(float, value))
    if scale == 1 and all(map(lt, buckets, buckets[1:])) and (not buckets or -_LARGE < buckets[0] <= buckets[-1] < _LARGE):
        return _Histogram(buckets, list(value.values()), ",".join(value))
    field = values.histogram_field(value, scale)
    names = ",".join(value) if list(values.histogram(field, scale)) == list(value) else ""
    return _Histogram(field["values"], field["counts"], names if scale == 1 else "")


#: Larger numbers can be written in more than one way.
_LARGE: Final = 1e15


def _opened(texts: list[str]) -> list[dict[str, int] | None]:
    try:
        return list(_HISTOGRAMS.decode("[" + ",".join(texts) + "]"))
    except (msgspec.MsgspecError, TypeError):
        return [_tried(lambda text: msgspec.json.decode(text, type=dict[str, int]), text) for text in texts]


def _fill_statistics(columns: Columns, place: Path, scale: float, batch: Batch, kept: list[bool]) -> None:
    opened = (batch if all(kept) else batch.filter(pa.array(kept, pa.bool_()))).opened()
    moments = opened.seconds
    found = histograms.statistics(opened.val, places.STATISTIC_NAMES.values(), 1 / scale)
    for short, name in places.STATISTIC_NAMES.items():
        column = columns.fields.setdefault((*_RESULT, *place, short), {})
        each = found[name].to_pylist()
        texts = _texts(each) if short != "mode" else _lists([mode or [] for mode in each])
        column |= ((ts, text) for ts, text in zip(moments, texts, strict=True) if text not in _NOTHING)


_NOTHING: Final = frozenset({"null", "[]"})


def _fill_run_href(columns: Columns, batch: Batch) -> None:
    for ts, text in _known(columns, RUN_HREF, batch):
        value = _decode(text)
        href = value.get("href") if isinstance(value, dict) else value
        if isinstance(href, str):
            columns.put(("pscheduler", "run_href"), ts, _encode(href).decode())
        columns.keep(RUN_HREF, ts, text)  # elmond shows none of a failed run, and none that is an object


def _fill_shared(columns: Columns, given: Mapping[str, Mapping[int, Any]]) -> None:
    """Fill the fields that several event types share, one time after the other."""
    others = {ts for name, each in given.items() if name not in (FAILURES, RUN_HREF) for ts in each}
    others |= {ts for path, column in columns.fields.items() if path[0] == "result" for ts in column}
    for ts, value in given.get(FAILURES, {}).items():
        _fill_failure(columns, ts, value, alone=ts not in others)
    for names, fill in _SHARED.items():
        by_moment: dict[int, dict[str, _Value]] = {}
        for name in names:
            for ts, value in given.get(name, {}).items():
                by_moment.setdefault(ts, {})[name] = value
        for ts, each in by_moment.items():
            fill(columns, ts, each)


def _fill_failure(columns: Columns, ts: int, value: _Value, alone: bool) -> None:
    error = value.value.get("error") if isinstance(value.value, dict) else None
    text = error if isinstance(error, str) else value.text
    columns.put((*_RESULT, "error"), ts, _encode(text).decode())
    if not alone or value.value != {"error": text}:
        columns.keep(FAILURES, ts, value.text)


def _fill_intervals(columns: Columns, ts: int, given: Mapping[str, _Value]) -> None:
    plain = {name: each.value for name, each in given.items()}
    found = _tried(values.intervals_field, plain)
    _fill_json(columns, ("intervals", "json"), ts, found, given, values.subintervals)


def _fill_streams(columns: Columns, ts: int, given: Mapping[str, _Value]) -> None:
    found = _tried(values.streams_field, {name: each.value for name, each in given.items()})
    _fill_json(columns, ("streams", "json"), ts, found, given, values.streams)


def _fill_json(
    columns: Columns, path: Path, ts: int, found: Any, given: Mapping[str, _Value], read: Callable[[Any, str], Any]
) -> None:
    if found:
        columns.put((*_RESULT, *path), ts, _encode(found).decode())
    for name, each in given.items():
        if not found or _tried(partial(_reads, read, name), found) != each.value:
            columns.keep(name, ts, each.text)


def _reads(read: Callable[[Any, str], Any], name: str, found: Any) -> Any:
    return read(found, name)


def _fill_trace(columns: Columns, ts: int, given: Mapping[str, _Value]) -> None:
    one, many = given.get("packet-trace"), given.get("packet-trace-multi")
    found = _tried(values.trace_field, many.value if many else [one.value if one else []])
    if found:
        for name, each in found.items():
            columns.put((*_RESULT, name), ts, _encode(each).decode())
    columns.keep("packet-trace-multi", ts, many.text if many else "null")
    if one is None:
        columns.keep("packet-trace", ts, "null")
    elif _tried(lambda made: values.trace(made["json"][0]), found) != one.value:
        columns.keep("packet-trace", ts, one.text)


def _fill_raw(columns: Columns, ts: int, given: Mapping[str, _Value]) -> None:
    (each,) = given.values()
    if isinstance(each.value, dict) and each.value.get("succeeded") is True:
        columns.put(_RESULT, ts, each.text)
        return
    succeeded = {"succeeded": True}
    columns.put(_RESULT, ts, _encode(each.value | succeeded if isinstance(each.value, dict) else succeeded).decode())
    columns.keep(RAW, ts, each.text)


_SHARED: Final[dict[tuple[str, ...], Callable[[Columns, int, Mapping[str, _Value]], None]]] = {
    (
        "throughput-subintervals",
        "packet-retransmits-subintervals",
        "streams-throughput-subintervals",
        "streams-packet-retransmits-subintervals",
    ): _fill_intervals,
    ("streams-throughput", "streams-packet-retransmits"): _fill_streams,
    ("packet-trace", "packet-trace-multi"): _fill_trace,
    (RAW,): _fill_raw,
}


def _tried(make: Callable[[Any], Any], value: Any) -> Any:
    """The result of `make` for a value; None if the value has another structure."""
    try:
        return make(value)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, msgspec.MsgspecError):
        return None


def _fill_success(columns: Columns, moments: list[int]) -> None:
    """Whether the run at each time succeeded, and the number of received packets."""
    whole = columns.fields.get(_RESULT, {})
    error = columns.fields.get((*_RESULT, "error"), {})
    results = {ts for path, column in columns.fields.items() if path[0] == "result" and path[1:] != ("error",) for ts in column}
    columns.fields[(*_RESULT, "succeeded")] = {
        ts: "false" if ts in error and ts not in results else "true" for ts in moments if ts not in whole
    }
    sent, lost = (columns.fields.get((*_RESULT, "packets", name), {}) for name in ("sent", "lost"))
    received = {
        ts: str(int(sent[ts]) - int(lost[ts])) for ts in sent.keys() & lost.keys() if sent[ts].isdigit() and lost[ts].isdigit()
    }
    if received:
        columns.fields[(*_RESULT, "packets", "received")] = received


def _fill_times(columns: Columns, moments: list[int], metadata: Metadata) -> None:
    duration = metadata.parameters.get("time-duration")
    try:
        seconds = math.floor(float(duration or 0))
    except (TypeError, ValueError, OverflowError):
        seconds = 0
    starts = _times(moments, 0)
    columns.fields[("@timestamp",)] = starts
    columns.fields[("pscheduler", "start_time")] = starts
    columns.fields[("pscheduler", "end_time")] = _times(moments, seconds) if seconds else starts
    columns.fields[("pscheduler", "added")] = starts  # elmond fails without it, and esmond does not have it


def _times(moments: list[int], seconds: int) -> Column:
    texts = pc.strftime(ts_column(array("q", (ts + seconds for ts in moments))), format='"%Y-%m-%dT%H:%M:%SZ"')
    return dict(zip(moments, texts.to_pylist(), strict=True))


def _assembled(head: Mapping[str, Any], columns: Columns, moments: list[int]) -> Iterator[Document]:
    """Documents from their fields: documents with the same fields share a format string."""
    paths = [path for path, column in columns.fields.items() if column]
    rows = zip(*(map(columns.fields[path].get, moments) for path in paths), strict=True)
    formats: dict[tuple[bool, ...], tuple[str, Callable[[tuple[Any, ...]], Any]]] = {}
    everything = (True,) * len(paths)
    for ts, row in zip(moments, rows, strict=True):
        there = everything if None not in row else tuple(map(bool, row))
        if there not in formats:
            formats[there] = _format(head, {path: number for number, path in enumerate(paths) if there[number]})
        text, fields = formats[there]
        yield Document(ts, text % fields(row))


def _format(head: Mapping[str, Any], numbers: Mapping[Path, int]) -> tuple[str, Callable[[tuple[Any, ...]], Any]]:
    """A document with "%s" for each field, and a function that picks the fields from a row, in this order: path of a field -> its index."""
    tree: dict[str, Any] = {name: dict(each) for name, each in head.items()}
    for path, number in numbers.items():
        if len(path) == 1 or path[0] != "result" or _RESULT not in numbers:
            _branch(tree, path[:-1])[path[-1]] = _Slot(number)
    order: list[int] = []
    text = _written(tree, order)
    return text, itemgetter(*order)


class _Slot(NamedTuple):
    number: int


def _branch(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path:
        tree[name] = tree = dict(tree.get(name, ()))
    return tree


def _written(value: Any, order: list[int]) -> str:
    if isinstance(value, _Slot):
        order.append(value.number)
        return "%s"
    if not isinstance(value, dict):
        return _encode(value).decode().replace("%", "%%")
    members = (f"{_encode(name).decode().replace('%', '%%')}:{_written(each, order)}" for name, each in value.items())
    return "{" + ",".join(members) + "}"
