"""What goes over the wire, pure: bytes of an archive's answers to columns, and datapoints to the bytes of a post."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa

from esmond_etl.model.batch import Batch, json_column, nullable_number_column, number_column, ts_column
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Metadata, Series


class _Number(msgspec.Struct, gc=False):
    ts: int
    val: float


class _NumberOrNull(msgspec.Struct, gc=False):
    ts: int
    val: float | None


class _Json(msgspec.Struct, gc=False):
    ts: int
    val: msgspec.Raw


_NUMBERS = msgspec.json.Decoder(list[_Number])
#: Also takes numbers that are spelled as text, as old archives have them.
_NUMBERS_OR_NULLS = msgspec.json.Decoder(list[_NumberOrNull], strict=False)
_JSONS = msgspec.json.Decoder(list[_Json])
_ENTRIES = msgspec.json.Decoder(list[dict[str, Any]])

#: JSON text of a value -> the bytes of it in a post.
encode = msgspec.json.Encoder().encode


def decode_page(body: bytes, series: Series) -> Batch:
    """The datapoints of one page `[{"ts": ..., "val": ...}, ...]`, in the order they came.

    Raises ValueError, saying what is wrong and where in the page, if it is anything else.
    """
    if series.holds_numbers:
        try:
            numbers = _NUMBERS.decode(body)
        except msgspec.ValidationError:
            return _with_nulls(body, series)
        val = number_column(array("d", [point.val for point in numbers]))
        return Batch.of(series, ts_column(array("q", [point.ts for point in numbers])), val)
    texts = _JSONS.decode(body)
    val = json_column([point.val for point in texts])
    return Batch.of(series, ts_column(array("q", [point.ts for point in texts])), val)


def _with_nulls(body: bytes, series: Series) -> Batch:
    points = _NUMBERS_OR_NULLS.decode(body)
    val = nullable_number_column([point.val for point in points])
    return Batch.of(series, ts_column(array("q", [point.ts for point in points])), val)


def check_page(batch: Batch, interval: Interval) -> Batch:
    """The page without datapoints that came twice: the same `ts` and the same value.

    Raises ValueError if the page is out of order, or holds datapoints that are not in `interval`.
    """
    if not len(batch):
        return batch
    first, last, is_strict = batch.moments[0], batch.moments[-1], batch.ascends(strictly=True)
    if not is_strict and not batch.ascends():
        before, after = next(pair for pair in pairwise(batch.moments) if pair[1] < pair[0])
        raise ValueError(f"the page is out of order: ts {after} comes after ts {before}")
    if first < interval.start or last >= interval.end:
        outside = first if first < interval.start else last
        raise ValueError(f"ts {outside} was not asked for (asked for {interval.start} to {interval.end - 1})")
    return Batch(batch.series, batch.points, in_order=True) if is_strict else _without_repeats(batch)


def _without_repeats(batch: Batch) -> Batch:
    seen: set[Any] = set()
    keep = []
    second = None
    for ts, val in zip(batch.moments, batch.val.to_pylist(), strict=True):
        if ts != second:
            second, seen = ts, set()
        keep.append(val not in seen)
        seen.add(val)
    return batch if all(keep) else batch.filter(pa.array(keep, pa.bool_(), from_pandas=False))


def decode_metadata_list(body: bytes) -> tuple[list[Metadata], int | None]:
    """One page of an archive's list, and how many metadata the archive says there are in all (None if it does not say).

    Raises ValueError if it is no such list.
    """
    entries = _ENTRIES.decode(body)
    total = entries[0].get("metadata-count-total") if entries else None
    return [decode_metadata(entry) for entry in entries], total if isinstance(total, int) else None


def decode_metadata(entry: Any) -> Metadata:
    """The metadata of one entry of a list; raises ValueError if it is none."""
    try:
        return Metadata.from_json(entry)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a metadata ({type(error).__name__}: {error}): {str(entry)[:120]}") from None


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
