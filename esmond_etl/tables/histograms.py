"""Histograms out of their JSON texts into one map column, without a Python object a bucket."""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import accumulate
from typing import Final

import pyarrow as pa
import pyarrow.csv as csv

from esmond_etl.model.batch import Batch

#: What buckets and counts are made of, in the texts that archives send; any other text is opened the slow way.
_DIGITS: Final = b"0123456789.-+e"

#: What is left of a bucket and its count without them, and what stands between two: as most archives write it, and as some do.
_FORMS: Final = ((b'"": ', b", "), (b'"":', b","))

#: What makes a line "bucket:count" of each bucket.
_LINES: Final = bytes.maketrans(b",}", b"\n\n")
_LEFT_OUT: Final = b'{" '

_READ: Final = csv.ReadOptions(column_names=["bucket", "count"], use_threads=False, block_size=1 << 24)
_PARSE: Final = csv.ParseOptions(delimiter=":", quote_char=False)
_CONVERT: Final = csv.ConvertOptions(column_types={"bucket": pa.string(), "count": pa.int64()}, null_values=[], check_utf8=False)

#: Texts (bytes of them) that take longer to open here than one by one.
_FEW: Final = 20_000


def opened(batch: Batch) -> pa.Array:
    """The values as map<string, int64>; raises ValueError, naming series and moment, if one is no histogram."""
    texts = batch.val
    if texts.nbytes < _FEW or texts.null_count:
        return batch.opened().val
    characters = _characters(texts)
    counts = _buckets(characters)
    if counts is None or len(counts) != len(texts):
        return batch.opened().val
    try:
        return _opened_plain(characters, counts)
    except pa.ArrowInvalid:  # a count that is no whole number, or that int64 cannot hold
        return batch.opened().val


def _buckets(characters: bytes) -> array[int] | None:
    """How many buckets each of some JSON texts has that stand one after the other; None if one is not in the usual form."""
    *texts, rest = characters.translate(None, _DIGITS).split(b"}")
    counts = array("i", [text.count(b":") for text in texts])
    usual = all(text in _forms(count) for text, count in zip(texts, counts, strict=True))
    return counts if usual and not rest else None


@lru_cache(10_000)
def _forms(count: int) -> tuple[bytes, ...]:
    """What is left of a text with so many buckets, but for its last character."""
    return tuple(b"{" + between.join([bucket] * count) for bucket, between in _FORMS)


def _opened_plain(characters: bytes, counts: array[int]) -> pa.Array:
    ends = array("i", accumulate(counts, initial=0))
    offsets = pa.Array.from_buffers(pa.int32(), len(ends), [None, pa.py_buffer(ends)])
    lines = characters.translate(_LINES, _LEFT_OUT)
    if lines.isspace():
        return pa.MapArray.from_arrays(offsets, pa.nulls(0, pa.string()), pa.nulls(0, pa.int64()))
    table = csv.read_csv(pa.BufferReader(lines), read_options=_READ, parse_options=_PARSE, convert_options=_CONVERT)
    return pa.MapArray.from_arrays(offsets, table.column("bucket").combine_chunks(), table.column("count").combine_chunks())


def _characters(texts: pa.Array) -> bytes:
    """All texts, one after the other."""
    _, ends, characters = texts.buffers()
    places = memoryview(ends).cast("b").cast("i")
    return bytes(memoryview(characters)[places[texts.offset] : places[texts.offset + len(texts)]])
