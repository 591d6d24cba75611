"""The wire format, without I/O: bytes of an archive's answers to columns, and datapoints to the bytes of a post."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from esmond_etl.client.faults import one_by_one
from esmond_etl.model.batch import Batch
from esmond_etl.model.columns import json_column, number_column, ts_column
from esmond_etl.model.errors import described
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Metadata, Series


class _Number(msgspec.Struct, gc=False):
    ts: int
    val: float


class _Json(msgspec.Struct, gc=False):
    ts: int
    val: msgspec.Raw


_NUMBERS = msgspec.json.Decoder(list[_Number])
_JSONS = msgspec.json.Decoder(list[_Json])
_ENTRIES = msgspec.json.Decoder(list[dict[str, Any]])

#: JSON text of a value -> the bytes of it in a post.
encode = msgspec.json.Encoder().encode


def decode_page(body: bytes, series: Series) -> Batch:
    """The datapoints of one page `[{"ts": ..., "val": ...}, ...]`, in their order, with the invalid ones as faults.

    Raises ValueError, with the error and its place in the page, if it is not such a page.
    """
    try:
        if series.holds_numbers:
            numbers = _NUMBERS.decode(body)
            val = number_column(array("d", [point.val for point in numbers]))
            return Batch.of(series, ts_column(array("q", [point.ts for point in numbers])), val)
        texts = _JSONS.decode(body)
        if _is_plain(body):
            val = json_column([point.val for point in texts])
            return Batch.of(series, ts_column(array("q", [point.ts for point in texts])), val)
    except (
        msgspec.DecodeError,
        OverflowError,
    ) as error:  # a null, a number written as text, an invalid datapoint, or not a page
        return _taken_apart(body, series, error)
    return one_by_one(body, series)


def _taken_apart(body: bytes, series: Series, error: Exception) -> Batch:
    try:
        return one_by_one(body, series)
    except ValueError:
        raise ValueError(str(error)) from None


def _is_plain(body: bytes) -> bool:
    """Whether all text in the page is certainly valid UTF-8, without lone surrogates."""
    # looking for one byte is much faster than for three
    if b"\\" in body and (b"\\ud" in body or b"\\uD" in body):  # a lone surrogate is possible
        return False
    try:
        return body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        return False


def check_page(batch: Batch, interval: Interval) -> Batch:
    """The page; raises ValueError if it is out of order, or holds datapoints that are not in `interval`."""
    if not len(batch):
        return batch
    first, last, is_strict = batch.moments[0], batch.moments[-1], batch.ascends(strictly=True)
    if not is_strict and not batch.ascends():
        before, after = next(pair for pair in pairwise(batch.moments) if pair[1] < pair[0])
        raise ValueError(f"the page is out of order: ts {after} comes after ts {before}")
    if first < interval.start or last >= interval.end:
        outside = first if first < interval.start else last
        raise ValueError(f"ts {outside} was not asked for (asked for {interval.start} to {interval.end - 1})")
    return Batch(batch.series, batch.points, is_strict, batch.faults)


def without_repeats(batch: Batch) -> Batch:
    """The page without duplicates: datapoints with the same `ts` and the same value."""
    if batch.in_order:
        return batch
    seen: set[Any] = set()
    keep = []
    second = None
    for ts, val in zip(batch.moments, batch.val.to_pylist(), strict=True):
        if ts != second:
            second, seen = ts, set()
        keep.append(val not in seen)
        seen.add(val)
    return batch if all(keep) else batch.filter(pa.array(keep, pa.bool_(), from_pandas=False))


class Listed(NamedTuple):
    """One page of an archive's list."""

    metadata: list[Metadata]
    unusable: dict[str, str]  #: the key of an invalid entry, or the text in its place -> the error
    total: int | None  #: the total number, if the archive tells it; otherwise None
    entries: int  #: on this page


def decode_metadata_list(body: bytes) -> Listed:
    """One page of an archive's list; raises ValueError if it is not a list of objects."""
    entries = _ENTRIES.decode(body)
    total = entries[0].get("metadata-count-total") if entries else None
    found, unusable = [], {}
    for entry in entries:
        try:
            found.append(decode_metadata(entry))
        except ValueError as error:
            key = entry.get("metadata-key")
            unusable[key if isinstance(key, str) else repr(key)[:80]] = str(error)
    return Listed(found, unusable, total if isinstance(total, int) else None, len(entries))


def decode_metadata(entry: Any) -> Metadata:
    """The metadata of one entry of a list; raises ValueError if the entry is not valid."""
    try:
        return Metadata.from_json(entry)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the archive lists an invalid entry ({described(error)}): {str(entry)[:120]}") from None


def encode_bulk(rows: Iterable[tuple[int, Sequence[tuple[str, bytes]]]]) -> bytes:
    """The body of a PUT: for each `ts` its (event type, JSON text of the value) in the order given."""
    items = []
    for ts, values in rows:
        inner = b",".join([b'{"event-type":%b,"val":%b}' % (encode(name), text) for name, text in values])
        items.append(b'{"ts":%d,"val":[%b]}' % (ts, inner))
    return b'{"data":[%b]}' % b",".join(items)


def detail(body: bytes) -> str:
    """The reason that an archive gives in its answer to a failed request, or "" if it gives none."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    found = answer.get("detail", "") if isinstance(answer, dict) else ""
    return found if isinstance(found, str) else ""
