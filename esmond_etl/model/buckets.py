"""JSON texts of histograms as bytes and columns: a page of them is taken apart without a Python object per bucket."""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

#: The characters of buckets and counts in the texts of archives; a text with other characters is decoded the slow way.
_DIGITS: Final = b"0123456789.-+e"

#: The rest of a bucket and its count, and the text between two of them: as most archives write it, and as some do.
_FORMS: Final = ((b'"": ', b", "), (b'"":', b","))

#: Without digits and blanks, a count that is not written in digits alone leaves a sign after its colon.
_SIGNS: Final = bytes.maketrans(b"-+e", b"...")

#: A histogram whose buckets are named in digits, and whose counts fit into an int64.
_USUAL: Final = r'^\{(?:"-?[0-9.]+": ?(?:0|[1-9][0-9]{0,17})(?:, ?"-?[0-9.]+": ?(?:0|[1-9][0-9]{0,17}))*)?\}$'

#: For fewer texts, decoding each of them is quicker.
_MANY: Final = 250

#: The ends of a bucket and of a histogram both end a line.
_LINES: Final = bytes.maketrans(b",}", b"\n\n")


class Opened(NamedTuple):
    """Histograms in columns."""

    maps: pa.MapArray  #: map<string, int64>: counts by bucket, in the order of the texts
    texts: pa.Array  #: JSON texts with sorted buckets and without blanks


def opened(texts: pa.Array) -> Opened | None:
    """Histograms from their JSON texts; None if these are few, or if one is not in the usual form or names a bucket twice."""
    if len(texts) < _MANY or texts.null_count or not pc.all(pc.match_substring_regex(texts, _USUAL)).as_py():
        return None
    names, counts = _entries(texts)
    ends = pc.cumulative_sum(pc.count_substring(texts, ":"))
    offsets = pa.concat_arrays([pa.array([0], ends.type), ends])
    row = pc.list_parent_indices(pa.ListArray.from_arrays(offsets, counts))
    falls = pc.and_(pc.less_equal(names[1:], names[:-1]), pc.equal(row[1:], row[:-1]))
    ordered = _ordered(pc.replace_substring(texts, " ", ""), pc.unique(row[1:].filter(falls)))
    return None if ordered is None else Opened(pa.MapArray.from_arrays(offsets, names, counts), ordered)


def _entries(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The names of all buckets, and their counts."""
    from pyarrow import csv  # few commands open histograms

    lines = pa.py_buffer(characters(texts).translate(_LINES, b' "{'))
    reading = csv.ReadOptions(use_threads=False, column_names=["name", "count"])
    types = csv.ConvertOptions(column_types={"name": pa.string(), "count": pa.int64()})
    found = csv.read_csv(lines, reading, csv.ParseOptions(delimiter=":", quote_char=False), types)
    return found["name"].combine_chunks(), found["count"].combine_chunks()


def _ordered(texts: pa.Array, rows: pa.Array) -> pa.Array | None:
    """The texts, with the buckets of some rows put in order; None if one of these rows names a bucket twice."""
    if not len(rows):
        return texts
    lists = pc.split_pattern(pc.utf8_slice_codeunits(texts.take(rows), 1, -1), ",")
    entries = pa.table({"row": pc.list_parent_indices(lists), "entry": lists.flatten()})
    entries = entries.sort_by([("row", "ascending"), ("entry", "ascending")]).combine_chunks()
    name = pc.list_element(pc.split_pattern(entries["entry"], ":"), 0).combine_chunks()
    row, entry = (column.combine_chunks() for column in entries.columns)
    if pc.any(pc.and_(pc.equal(name[1:], name[:-1]), pc.equal(row[1:], row[:-1]))).as_py():
        return None
    joined = pc.binary_join(pa.ListArray.from_arrays(lists.offsets, entry), ",")
    changed = pc.binary_join_element_wise("{", joined, "}", "")
    everyone = pc.subtract(pc.cumulative_sum(pa.repeat(1, len(texts))), 1)
    return pc.replace_with_mask(texts, pc.is_in(everyone, value_set=rows.cast(everyone.type)), changed)


def characters(texts: pa.Array) -> bytes:
    """All texts, one after the other."""
    _, ends, data = texts.buffers()
    places = memoryview(ends).cast("b").cast("i")
    return bytes(memoryview(data)[places[texts.offset] : places[texts.offset + len(texts)]])


def counted(data: bytes) -> array[int] | None:
    """The number of buckets in each of several JSON texts; None if one is not in the usual form."""
    *texts, rest = data.translate(None, _DIGITS).split(b"}")
    counts = array("i", [text.count(b":") for text in texts])
    usual = all(text in _forms(count) for text, count in zip(texts, counts, strict=True))
    return counts if usual and not rest else None


@lru_cache(10_000)
def _forms(count: int) -> tuple[bytes, ...]:
    """The remaining characters of a text with this many buckets, without the last one."""
    return tuple(b"{" + between.join([bucket] * count) for bucket, between in _FORMS)


def canonical(texts: pa.Array) -> list[bytes] | None:
    """The texts with sorted buckets and without blanks; None if one of them is not in the usual form.

    A quotation mark sorts before all characters of a bucket, so sorting `"BUCKET":COUNT` sorts by bucket. A bucket that a text names
    twice is kept twice.
    """
    data = characters(texts)
    counts = counted(data)
    if counts is None or len(counts) != len(texts):
        return None
    if b":." in data.translate(_SIGNS, b"0123456789 "):
        return None
    *compact, _ = data.translate(None, b"{ ").split(b"}")
    return [b"{%b}" % b",".join(sorted(text.split(b","))) for text in compact]
