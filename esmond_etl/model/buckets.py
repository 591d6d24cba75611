"""JSON texts of histograms as bytes: a page of them is taken apart without a Python object per bucket."""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import Final

import pyarrow as pa

#: The characters of buckets and counts in the texts of archives; a text with other characters is decoded the slow way.
_DIGITS: Final = b"0123456789.-+e"

#: The rest of a bucket and its count, and the text between two of them: as most archives write it, and as some do.
_FORMS: Final = ((b'"": ', b", "), (b'"":', b","))

#: Without digits and blanks, a count that is not written in digits alone leaves a sign after its colon.
_SIGNS: Final = bytes.maketrans(b"-+e", b"...")


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
