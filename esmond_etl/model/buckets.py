"""JSON texts of histograms, many at once: they are taken apart without a Python object per bucket."""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model.columns import int_column

#: The characters of buckets and counts in the texts of archives; a text with other characters is decoded the slow way.
_DIGITS: Final = b"0123456789.-+e"

#: The rest of a bucket and its count, and the text between two of them: as most archives write it, and as some do.
_FORMS: Final = ((b'"": ', b", "), (b'"":', b","))

#: Without digits and blanks, a count that is not written in digits alone leaves a sign after its colon.
_SIGNS: Final = bytes.maketrans(b"-+e", b"...")

#: What makes a line "bucket:count" of each bucket.
_LINES: Final = bytes.maketrans(b",}", b"\n\n")

#: Below this many bytes, decoding texts one by one is faster.
_FEW: Final = 20_000


class Opened(NamedTuple):
    """Histograms that have been taken apart."""

    maps: pa.MapArray  #: map<string, int64>: counts by bucket
    texts: list[bytes]  #: the JSON texts with sorted buckets and without blanks


def opened(texts: pa.Array) -> Opened | None:
    """Histograms from their JSON texts.

    None if these are few bytes, one is not in the usual form or names a bucket twice, or a count has more than 64 bits.
    """
    if texts.nbytes < _FEW or texts.null_count:
        return None
    data = _characters(texts)
    counts = _counts(data, len(texts))
    if counts is None or not any(counts):
        return None
    try:
        names, numbers = _entries(data)
    except pa.ArrowInvalid:
        return None
    offsets = int_column(array("i", accumulate(counts, initial=0)))
    maps = pa.MapArray.from_arrays(offsets, names, numbers)
    unordered = _unordered(maps)
    if any(_names_twice(maps, number) for number in unordered):
        return None
    found = _compact(data)
    ordered = [b"{%b}" % text for text in found]
    for number in unordered:
        ordered[number] = _sorted(found[number])
    return Opened(maps, ordered)


def canonical(texts: pa.Array) -> list[bytes] | None:
    """The texts with sorted buckets and without blanks; None if one is not in the usual form.

    A bucket that a text names twice is kept twice.
    """
    data = _characters(texts)
    return None if _counts(data, len(texts)) is None else list(map(_sorted, _compact(data)))


def _characters(texts: pa.Array) -> bytes:
    """All texts, one after the other."""
    _, ends, data = texts.buffers()
    places = memoryview(ends).cast("b").cast("i")
    return bytes(memoryview(data)[places[texts.offset] : places[texts.offset + len(texts)]])


def _counts(data: bytes, number: int) -> array[int] | None:
    """The number of buckets in each of `number` JSON texts; None if one is not in the usual form."""
    *texts, rest = data.translate(None, _DIGITS).split(b"}")
    counts = array("i", [text.count(b":") for text in texts])
    usual = all(text in _forms(count) for text, count in zip(texts, counts, strict=True))
    if not usual or rest or len(counts) != number or b":." in data.translate(_SIGNS, b"0123456789 "):
        return None
    return counts


@lru_cache(10_000)
def _forms(count: int) -> tuple[bytes, ...]:
    """The remaining characters of a text with this many buckets, without the last one."""
    return tuple(b"{" + between.join([bucket] * count) for bucket, between in _FORMS)


def _entries(data: bytes) -> tuple[pa.Array, pa.Array]:
    """The names of all buckets, and their counts; raises ArrowInvalid if a count does not fit into an int64."""
    from pyarrow import csv  # few commands open histograms

    lines = pa.py_buffer(data.translate(_LINES, b'{" '))
    reading = csv.ReadOptions(column_names=["bucket", "count"], use_threads=False, block_size=1 << 24)
    types = {"bucket": pa.string(), "count": pa.int64()}
    converting = csv.ConvertOptions(column_types=types, null_values=[], check_utf8=False)
    found = csv.read_csv(lines, reading, csv.ParseOptions(delimiter=":", quote_char=False), converting)
    return found["bucket"].combine_chunks(), found["count"].combine_chunks()


def _unordered(maps: pa.MapArray) -> list[int]:
    """The numbers of the histograms whose buckets are not sorted by name, or are named twice."""
    names, row = maps.keys, pc.list_parent_indices(pa.ListArray.from_arrays(maps.offsets, maps.keys))
    falls = pc.and_(pc.less_equal(names[1:], names[:-1]), pc.equal(row[1:], row[:-1]))
    found: list[int] = pc.unique(row[1:].filter(falls)).to_pylist()
    return found


def _names_twice(maps: pa.MapArray, number: int) -> bool:
    first, end = maps.offsets[number].as_py(), maps.offsets[number + 1].as_py()
    names = maps.keys.slice(first, end - first).to_pylist()
    return len(set(names)) < len(names)


def _compact(data: bytes) -> list[bytes]:
    """The texts without blanks and braces."""
    *compact, _ = data.translate(None, b"{ ").split(b"}")
    return compact


def _sorted(compact: bytes) -> bytes:
    # a quotation mark sorts before all characters of a bucket, so sorting `"BUCKET":COUNT` sorts by bucket
    return b"{%b}" % b",".join(sorted(compact.split(b",")))
