"""Histograms out of their JSON texts into one map column, without a Python object a bucket."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from esmond_etl import Batch

#: The texts that archives send: an object of counts by bucket, its keys numbers. Anything else is opened the slow way.
_PLAIN: Final = r'^\{("[-+.0-9e]+": ?(0|[1-9][0-9]*)(, ?"[-+.0-9e]+": ?(0|[1-9][0-9]*))*)?\}$'

#: What makes a line "bucket:count" of each bucket in a text that `_PLAIN` matches.
_LINES: Final = bytes.maketrans(b",}", b"\n\n")
_LEFT_OUT: Final = b'{" '

_READ: Final = csv.ReadOptions(column_names=["bucket", "count"], use_threads=False, block_size=1 << 24)
_PARSE: Final = csv.ParseOptions(delimiter=":", quote_char=False)
_CONVERT: Final = csv.ConvertOptions(column_types={"bucket": pa.string(), "count": pa.int64()}, null_values=[], check_utf8=False)

#: Texts (bytes of them) that take longer to open here than one by one.
_FEW: Final = 20_000

_NOTHING: Final = pa.Array.from_buffers(pa.int32(), 1, [None, pa.py_buffer(bytes(4))])


def opened(batch: Batch) -> pa.Array:
    """The values as map<string, int64>; raises ValueError, naming series and moment, if one is no histogram."""
    texts = batch.val
    if texts.nbytes < _FEW or texts.null_count or not pc.all(pc.match_substring_regex(texts, _PLAIN)).as_py():
        return batch.opened().val
    try:
        return _opened_plain(texts)
    except pa.ArrowInvalid:  # a count that int64 cannot hold
        return batch.opened().val


def _opened_plain(texts: pa.Array) -> pa.Array:
    sizes = pc.cumulative_sum(pc.count_substring(texts, ":"))
    offsets = pa.concat_arrays([_NOTHING, sizes])
    lines = _characters(texts).translate(_LINES, _LEFT_OUT)
    if lines.isspace():
        return pa.MapArray.from_arrays(offsets, pa.nulls(0, pa.string()), pa.nulls(0, pa.int64()))
    table = csv.read_csv(pa.BufferReader(lines), read_options=_READ, parse_options=_PARSE, convert_options=_CONVERT)
    return pa.MapArray.from_arrays(offsets, table.column("bucket").combine_chunks(), table.column("count").combine_chunks())


def _characters(texts: pa.Array) -> bytes:
    """All texts, one after the other."""
    _, ends, characters = texts.buffers()
    places = memoryview(ends).cast("b").cast("i")
    return bytes(memoryview(characters)[places[texts.offset] : places[texts.offset + len(texts)]])
