"""Histograms of esmond as fields of documents, with the statistics that documents have beside them."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Batch, Count, histograms, int_column, nullable_number_column, nullable_text_column
from esmond_etl_opensearch.codec import places, values
from esmond_etl_opensearch.codec.fields import Fields, list_texts, number_texts
from esmond_etl_opensearch.codec.places import Path

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Count]).decode

#: Larger numbers can be written in more than one way.
_LARGE: Final = 1e15

_UNFIT: Final = "it is not a histogram: buckets must be finite numbers, and counts whole numbers of 64 bits"


def fill(fields: Fields, name: str, batch: Batch) -> None:
    """Set the fields of the datapoints of one event type."""
    place, scale = places.STATISTICS[name]
    texts = _in_columns(batch) if scale == 1 else pa.nulls(len(batch), pa.string())
    if texts.null_count:
        texts = _one_by_one(fields, name, scale, batch, texts)
    fields.add(("result", *place, "histogram"), batch.ts, texts)
    _fill_statistics(fields, place, scale, batch.filter(texts.is_valid()) if texts.null_count else batch)


def _in_columns(batch: Batch) -> pa.Array:
    """The text of each field; null for a histogram that must be converted alone.

    Its buckets do not ascend, or the name of one is not the JSON text of its number.
    """
    try:
        opened = batch.opened()
    except (ValueError, TypeError):
        return pa.nulls(len(batch), pa.string())
    if batch.is_json and batch.sorted_texts is None:  # counts that are not written as whole numbers
        return pa.nulls(len(batch), pa.string())
    row, names, counts = histograms.entries(opened.val)
    different = names.dictionary_encode()
    bucket = nullable_number_column(list(map(_number, different.dictionary.to_pylist()))).take(different.indices)
    odd = bucket.is_null()
    falls = pc.and_(pc.less_equal(bucket[1:], bucket[:-1]), pc.equal(row[1:], row[:-1]))
    alone = pa.concat_arrays([row.filter(odd), row[1:].filter(falls)])
    offsets = pc.subtract(opened.val.offsets, opened.val.offsets[0])
    values, numbers = (list_texts(offsets, each) for each in (names, counts.cast(pa.string())))
    texts = pc.binary_join_element_wise('{"values":[', values, '],"counts":[', numbers, "]}", "")
    if not len(alone):
        return texts
    everyone = int_column(array("q", range(len(batch))))
    return pc.if_else(pc.is_in(everyone, value_set=pc.unique(alone)), pa.scalar(None, pa.string()), texts)


@lru_cache(1 << 16)  # most histograms have the same few thousand buckets
def _number(name: str) -> float | None:
    """The number of a bucket; None unless its name is the only JSON text of that number."""
    try:
        number = float(name)
    except ValueError:
        return None
    return number if abs(number) < _LARGE and "e" not in name and _encode(number).decode() == name else None


def _one_by_one(fields: Fields, name: str, scale: float, batch: Batch, texts: pa.Array) -> pa.Array:
    """`texts`, with the missing ones made one by one. A value that is not a histogram is refused, and its text stays missing."""
    found: list[str | None] = texts.to_pylist()
    seconds, given = batch.seconds, batch.val.to_pylist()
    for row, text in enumerate(found):
        if text is None:
            original = given[row] if batch.is_json else _encode(dict(given[row] or ())).decode()
            histogram = _tried(partial(_field, scale), original)
            if histogram is None:
                fields.refuse(name, seconds[row], original or "null", _UNFIT)
                continue
            values, counts = (_encode(each).decode() for each in (histogram.buckets, histogram.counts))
            found[row] = f'{{"values":{values},"counts":{counts}}}'
            if not histogram.names or values != f"[{histogram.names}]" or "e" in values:
                fields.keep(name, seconds[row], original)
    return nullable_text_column(found)


class _Histogram(NamedTuple):
    buckets: list[float]  #: ascending
    counts: list[int]
    names: str  #: of the buckets, as esmond writes them; "" if they follow from the numbers


def _field(scale: float, text: str) -> _Histogram:
    value = _decode(text)
    field = values.histogram_field(value, scale)
    names = ",".join(value) if list(values.histogram(field, scale)) == list(value) else ""
    return _Histogram(field["values"], field["counts"], names if scale == 1 else "")


def _tried(make: Callable[[str], _Histogram], text: str) -> _Histogram | None:
    """The result of `make`; None if the text is not a histogram."""
    try:
        return make(text)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, msgspec.MsgspecError):
        return None


def _fill_statistics(fields: Fields, place: Path, scale: float, batch: Batch) -> None:
    found = histograms.statistics(batch.opened().val, places.STATISTIC_NAMES.values(), 1 / scale)
    for short, name in places.STATISTIC_NAMES.items():
        each = found[name]
        if short == "mode":
            joined = list_texts(each.offsets, number_texts(each.values))
            texts = pc.binary_join_element_wise(
                "[", pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined), "]", ""
            )
        else:
            texts = number_texts(each)
            texts = pc.if_else(pc.equal(texts, "null"), pa.scalar(None, pa.string()), texts)
        fields.add(("result", *place, short), batch.ts, texts)
