"""Histograms from JSON texts to one map column, without a Python object per bucket."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import Final

import pyarrow as pa
import pyarrow.csv as csv

from esmond_etl.model import buckets
from esmond_etl.model.batch import Batch, int_column

#: What makes a line "bucket:count" of each bucket.
_LINES: Final = bytes.maketrans(b",}", b"\n\n")
_LEFT_OUT: Final = b'{" '

_READ: Final = csv.ReadOptions(column_names=["bucket", "count"], use_threads=False, block_size=1 << 24)
_PARSE: Final = csv.ParseOptions(delimiter=":", quote_char=False)
_CONVERT: Final = csv.ConvertOptions(column_types={"bucket": pa.string(), "count": pa.int64()}, null_values=[], check_utf8=False)

#: Below this many bytes, decoding texts one by one is faster.
_FEW: Final = 20_000


def opened(batch: Batch) -> pa.Array:
    """The values as map<string, int64>; raises ValueError, with series and time, if one is not a histogram."""
    texts = batch.val
    if texts.nbytes < _FEW or texts.null_count:
        return batch.opened().val
    characters = buckets.characters(texts)
    counts = buckets.counted(characters)
    if counts is None or len(counts) != len(texts):
        return batch.opened().val
    try:
        return _opened_plain(characters, counts)
    except pa.ArrowInvalid:  # a count that is not a whole number, or too large for int64
        return batch.opened().val


def _opened_plain(characters: bytes, counts: array[int]) -> pa.Array:
    ends = array("i", accumulate(counts, initial=0))
    offsets = int_column(ends)
    lines = characters.translate(_LINES, _LEFT_OUT)
    if lines.isspace():
        return pa.MapArray.from_arrays(offsets, pa.nulls(0, pa.string()), pa.nulls(0, pa.int64()))
    table = csv.read_csv(pa.BufferReader(lines), read_options=_READ, parse_options=_PARSE, convert_options=_CONVERT)
    return pa.MapArray.from_arrays(offsets, table.column("bucket").combine_chunks(), table.column("count").combine_chunks())
