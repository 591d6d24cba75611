"""From datapoints of one metadata to documents: one document for everything that was measured at one time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, reduce
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import TS, Batch, Metadata, bool_column, event_type
from esmond_etl_opensearch.codec import histograms, places, values
from esmond_etl_opensearch.codec import metadata as tests
from esmond_etl_opensearch.codec.assembly import Document, assembled
from esmond_etl_opensearch.codec.fields import Fields, Refused, number_texts
from esmond_etl_opensearch.codec.places import FAILURES, RAW, RUN_HREF, Path

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode

_RESULT: Final = ("result",)
_NULL: Final = pa.scalar(None, pa.string())

#: A whole number with fewer digits fits into an int64.
_DIGITS: Final = 19


def documents(metadata: Metadata, batches: Mapping[str, Iterable[Batch]], refused: list[Refused]) -> Iterator[Document]:
    """The documents of one metadata, oldest first: event type -> its datapoints.

    Datapoints that no document can hold are added to `refused`, for example the second one of an event type in one second.
    """
    kind = places.test_type(metadata) or ""
    fields = Fields(refused)
    shared: dict[str, dict[int, _Value]] = {}
    for name, each in batches.items():
        for batch in _one_a_second(fields, name, each):
            _fill(fields, kind, name, batch, shared.setdefault(name, {}))
    _fill_shared(fields, shared)
    moments = fields.moments()
    found = fields.aligned(moments)
    found |= _success(found, len(moments))
    found |= _times(moments, metadata)
    yield from assembled(tests.head(metadata, kind), found, moments)


def _one_a_second(fields: Fields, name: str, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same without the second and further datapoints of a second, which are refused."""
    last = None
    for batch in batches:
        moments = batch.moments
        again = [later == earlier for earlier, later in pairwise((last, *moments))] if not _ascends(batch, last) else []
        last = moments[-1] if len(moments) else last
        for is_again, ts, value in zip(again, moments, batch.val.to_pylist() if any(again) else (), strict=False):
            if is_again:
                text = value if isinstance(value, str) else _encode(value).decode()
                fields.refuse(name, ts, text, "a document has one value per second, and this second has one already")
        yield batch.filter(bool_column(not each for each in again)) if any(again) else batch


def _ascends(batch: Batch, last: int | None) -> bool:
    return batch.ascends(strictly=True) and (not len(batch) or batch.moments[0] != last)


def _fill(fields: Fields, kind: str, name: str, batch: Batch, shared: dict[int, _Value]) -> None:
    """Put the datapoints of one event type into their fields; those of shared fields are only noted in `shared`."""
    data_type = event_type(name).data_type
    if name == RUN_HREF:
        _fill_run_href(fields, batch)
    elif event_type(name).is_number:
        path = places.place(kind, name) or ()
        _fill_numbers(fields, (*_RESULT, *path), batch, whole=data_type == "integer" and name != "throughput")
    elif data_type == "histogram":
        histograms.fill(fields, name, batch)
    else:
        shared |= {ts: _Value(text, _decode(text)) for ts, text in _known(fields, name, batch)}


class _Value(NamedTuple):
    text: str
    value: Any


def _known(fields: Fields, name: str, batch: Batch) -> Iterator[tuple[int, str]]:
    """The times and the JSON texts of the values that are not null."""
    for ts, text in zip(batch.seconds, batch.val.to_pylist(), strict=True):
        if text is None or text == "null":
            fields.refuse(name, ts, "null", "a document cannot hold null")
        else:
            yield ts, text


def _fill_numbers(fields: Fields, path: Path, batch: Batch, whole: bool) -> None:
    texts = number_texts(batch.val, whole)
    unfit = pc.equal(texts, "null")  # also of NaN and infinity
    for ts in batch.filter(unfit).seconds if pc.any(unfit).as_py() else ():
        fields.refuse(batch.series.event_type, ts, "null", "a document can hold only finite numbers")
    fields.add(path, batch.ts, pc.if_else(unfit, _NULL, texts))


def _fill_run_href(fields: Fields, batch: Batch) -> None:
    for ts, text in _known(fields, RUN_HREF, batch):
        value = _decode(text)
        href = value.get("href") if isinstance(value, dict) else value
        if isinstance(href, str):
            fields.put(("pscheduler", "run_href"), ts, _encode(href).decode())
        fields.keep(RUN_HREF, ts, text)  # elmond shows none of a failed run, and none that is an object


def _fill_shared(fields: Fields, given: Mapping[str, Mapping[int, _Value]]) -> None:
    """Fill the fields that several event types share, one time after the other."""
    failures = given.get(FAILURES, {})
    others = set(fields.moments(lambda path: path[0] == "result").to_pylist()) if failures else set[int]()
    others.update(ts for name, each in given.items() if name != FAILURES for ts in each)
    for ts, value in failures.items():
        _fill_failure(fields, ts, value, alone=ts not in others)
    for names, fill in _SHARED.items():
        by_moment: dict[int, dict[str, _Value]] = {}
        for name in names:
            for ts, value in given.get(name, {}).items():
                by_moment.setdefault(ts, {})[name] = value
        for ts, each in by_moment.items():
            fill(fields, ts, each)


def _fill_failure(fields: Fields, ts: int, value: _Value, alone: bool) -> None:
    error = value.value.get("error") if isinstance(value.value, dict) else None
    text = error if isinstance(error, str) else value.text
    fields.put((*_RESULT, "error"), ts, _encode(text).decode())
    if not alone or value.value != {"error": text}:
        fields.keep(FAILURES, ts, value.text)


def _fill_intervals(fields: Fields, ts: int, given: Mapping[str, _Value]) -> None:
    plain = {name: each.value for name, each in given.items()}
    found = _tried(values.intervals_field, plain)
    _fill_json(fields, ("intervals", "json"), ts, found, given, values.subintervals)


def _fill_streams(fields: Fields, ts: int, given: Mapping[str, _Value]) -> None:
    found = _tried(values.streams_field, {name: each.value for name, each in given.items()})
    _fill_json(fields, ("streams", "json"), ts, found, given, values.streams)


def _fill_json(
    fields: Fields, path: Path, ts: int, found: Any, given: Mapping[str, _Value], read: Callable[[Any, str], Any]
) -> None:
    if found:
        fields.put((*_RESULT, *path), ts, _encode(found).decode())
    for name, each in given.items():
        if not found or _tried(partial(_reads, read, name), found) != each.value:
            fields.keep(name, ts, each.text)


def _reads(read: Callable[[Any, str], Any], name: str, found: Any) -> Any:
    return read(found, name)


def _fill_trace(fields: Fields, ts: int, given: Mapping[str, _Value]) -> None:
    one, many = given.get("packet-trace"), given.get("packet-trace-multi")
    found = _tried(values.trace_field, many.value if many else [one.value if one else []])
    if found:
        for name, each in found.items():
            fields.put((*_RESULT, name), ts, _encode(each).decode())
    fields.keep("packet-trace-multi", ts, many.text if many else "null")
    if one is None:
        fields.keep("packet-trace", ts, "null")
    elif _tried(lambda made: values.trace(made["json"][0]), found) != one.value:
        fields.keep("packet-trace", ts, one.text)


def _fill_raw(fields: Fields, ts: int, given: Mapping[str, _Value]) -> None:
    (each,) = given.values()
    if isinstance(each.value, dict) and each.value.get("succeeded") is True:
        fields.put(_RESULT, ts, each.text)
        return
    succeeded = {"succeeded": True}
    fields.put(_RESULT, ts, _encode(each.value | succeeded if isinstance(each.value, dict) else succeeded).decode())
    fields.keep(RAW, ts, each.text)


_SHARED: Final[dict[tuple[str, ...], Callable[[Fields, int, Mapping[str, _Value]], None]]] = {
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


def _success(found: Mapping[Path, pa.Array], length: int) -> dict[Path, pa.Array]:
    """Whether the run at each time succeeded, and the number of received packets, where these follow from other fields."""
    error, whole = found.get((*_RESULT, "error")), found.get(_RESULT)
    succeeded = pa.repeat(pa.scalar("true"), length)
    if error is not None:
        others = (column.is_valid() for path, column in found.items() if path[0] == "result" and path[1:] != ("error",))
        any_other = reduce(pc.or_, others, pa.repeat(pa.scalar(False), length))
        succeeded = pc.if_else(pc.and_not(error.is_valid(), any_other), "false", succeeded)
    if whole is not None:
        succeeded = pc.if_else(whole.is_valid(), _NULL, succeeded)
    sent, lost = (found.get((*_RESULT, "packets", name)) for name in ("sent", "lost"))
    fields: dict[Path, pa.Array] = {(*_RESULT, "succeeded"): succeeded}
    if sent is not None and lost is not None:
        fields[*_RESULT, "packets", "received"] = _difference(sent, lost)
    return fields


def _difference(sent: pa.Array, lost: pa.Array) -> pa.Array:
    """The JSON texts of `sent` less `lost`, null where one of them is not a whole number."""
    are_whole = [pc.and_(pc.ascii_is_decimal(each), pc.less(pc.binary_length(each), _DIGITS)) for each in (sent, lost)]
    mask = pc.fill_null(pc.and_(*are_whole), False)
    numbers = [pc.if_else(mask, each, "0").cast(pa.int64()) for each in (sent, lost)]
    return pc.if_else(mask, pc.subtract(*numbers).cast(pa.string()), _NULL)


def _times(moments: pa.Array, metadata: Metadata) -> dict[Path, pa.Array]:
    duration = metadata.parameters.get("time-duration")
    try:
        seconds = math.floor(float(duration or 0))
    except (TypeError, ValueError, OverflowError):
        seconds = 0
    starts = _written(moments)
    ends = _written(pc.add(moments, seconds)) if seconds else starts
    # elmond fails without `added`, and esmond does not have it
    fields = {"start_time": starts, "end_time": ends, "added": starts}
    return {("@timestamp",): starts, **{("pscheduler", name): each for name, each in fields.items()}}


def _written(moments: pa.Array) -> pa.Array:
    texts = moments.cast(TS).cast(pa.string())  # three times as fast as strftime
    return pc.binary_join_element_wise('"', pc.replace_substring(texts, " ", "T"), '"', "")
