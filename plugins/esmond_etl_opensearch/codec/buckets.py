"""Histograms of documents as JSON texts of esmond, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Count, int_column, json_column, number_column, text_column
from esmond_etl_opensearch.codec.fields import items, list_texts

_encode: Final = msgspec.json.Encoder().encode

_BUCKET: Final = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?"
_COUNT: Final = r"(?:0|[1-9][0-9]{0,17})"

#: A histogram as servers write it, with at least one bucket.
_USUAL: Final = rf'^\{{"values":\[{_BUCKET}(?:,{_BUCKET})*\],"counts":\[{_COUNT}(?:,{_COUNT})*\]\}}$'

#: Without the deleted characters, each of the two lists is a line; the second one begins with a comma.
_LINES: Final = bytes.maketrans(b"]", b"\n")
_DELETED: Final = b'{"valuescont:}['


class _Histogram(msgspec.Struct, gc=False):
    values: tuple[float, ...]
    counts: tuple[Count, ...]


class _Lists(NamedTuple):
    """The lists of many histograms, one after the other."""

    lengths: list[list[int]]  #: of `values`, and of `counts`
    bucket: pa.Array  #: the different buckets, float64
    place: pa.Array  #: of each bucket among these
    count: pa.Array  #: JSON texts


_decode: Final = msgspec.json.Decoder(list[_Histogram]).decode


def texts(given: Sequence[msgspec.Raw], scale: float) -> pa.Array | None:
    """JSON texts, with the numbers of buckets as elmond writes them; None if buckets do not ascend: one may be there twice.

    Raises MsgspecError if a field is not a histogram.
    """
    lists = _usual(given) or _any(given)
    of_values, of_counts = lists.lengths
    if of_values != of_counts:
        return None
    ends = list(accumulate(of_values, initial=0))
    buckets = lists.bucket.take(lists.place)
    falls = pc.indices_nonzero(pc.less_equal(buckets[1:], buckets[:-1])).to_pylist()
    if not {place + 1 for place in falls} <= set(ends):
        return None
    names = text_column([_name(each, scale) for each in lists.bucket.to_pylist()]).take(lists.place)
    members = pc.binary_join_element_wise(names, lists.count, ":")
    return pc.binary_join_element_wise("{", list_texts(int_column(array("i", ends)), members), "}", "")


def _usual(given: Sequence[msgspec.Raw]) -> _Lists | None:
    """The lists, without a Python object a bucket; None if a text is not in the usual form."""
    if not pc.all(pc.match_substring_regex(json_column(given), _USUAL)).as_py():
        return None
    lines = b"".join(given).translate(_LINES, _DELETED).split(b"\n")
    values, counts = lines[:-1:2], lines[1::2]
    lengths = [[line.count(b",") + 1 for line in values], [line.count(b",") for line in counts]]
    different = items(b",".join(values).decode()).dictionary_encode()
    bucket = number_column(array("d", map(float, different.dictionary.to_pylist())))
    return _Lists(lengths, bucket, different.indices, items(b"".join(counts)[1:].decode()))


def _any(given: Sequence[msgspec.Raw]) -> _Lists:
    found = _decode(b"[%b]" % b",".join(given))
    lengths = [[len(each.values) for each in found], [len(each.counts) for each in found]]
    different = number_column(array("d", chain.from_iterable([each.values for each in found]))).dictionary_encode()
    counts = int_column(array("q", chain.from_iterable([each.counts for each in found])))
    return _Lists(lengths, different.dictionary, different.indices, counts.cast(pa.string()))


@lru_cache(1 << 16)  # most histograms have the same few thousand buckets
def _name(bucket: float, scale: float) -> str:
    return _encode(str(bucket * scale)).decode()
