"""Documents decoded straight into columns: for numbers and histograms, which are most of what archives hold.

A page that does not fit these types, and one with values that are kept as esmond had them, is read by `codec.reading` instead.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Series, event_type, nullable_number_column, number_column
from esmond_etl_opensearch.codec import places
from esmond_etl_opensearch.codec.fields import list_texts, texts_of
from esmond_etl_opensearch.codec.places import Path

_encode: Final = msgspec.json.Encoder().encode


class Unfit(Exception):
    """A page that must be read document by document."""


class Typed(NamedTuple):
    """How documents become a column."""

    source: type[msgspec.Struct]  #: of the fields of a document
    column: Callable[[Sequence[Any]], pa.Array]  #: hits -> their values, null for none; raises Unfit


def typed(series: Series) -> Typed | None:
    """The way for `series`; None if there is none."""
    if series.summary.type == "statistics":
        return None
    return _typed(series.event_type, places.test_type(series.metadata) or "")


@cache
def _typed(name: str, kind: str) -> Typed | None:
    path = places.place(kind, name)
    if not path:
        return None
    if event_type(name).is_number:
        return _numbers(name, path)
    return _histograms(name, path) if event_type(name).data_type == "histogram" else None


def _numbers(name: str, path: Path) -> Typed:
    others = [places.ALSO_AT[path]] if path in places.ALSO_AT else []
    counts = list(places.UDP_PACKETS) if name.startswith("packet-loss-rate") else []
    source = _source(dict.fromkeys((path, *others, *counts), float))
    first, *rest = (attrgetter(_dotted(each)) for each in (path, *others))
    sent, lost = (attrgetter(_dotted(each)) for each in counts) if counts else (None, None)

    def other(hit: Any) -> float | None:
        found = next((value for get in rest if (value := get(hit)) is not None), None)
        if found is None and sent and lost and sent(hit) and lost(hit) is not None:
            return float(lost(hit) / sent(hit))
        return found

    def column(hits: Sequence[Any]) -> pa.Array:
        values = list(map(first, hits))
        if None not in values:
            return number_column(array("d", values))
        return nullable_number_column([other(hit) if each is None else each for each, hit in zip(values, hits, strict=True)])

    return Typed(source, column)


class _Histogram(msgspec.Struct, gc=False):
    values: list[float]
    counts: list[int]


def _histograms(name: str, path: Path) -> Typed:
    get, kept = attrgetter(_dotted(path)), attrgetter("source.esmond")
    scale = places.STATISTICS[name][1]

    def column(hits: Sequence[Any]) -> pa.Array:
        found: list[_Histogram | None] = list(map(get, hits))
        if any(each is not None for each in map(kept, hits)):
            raise Unfit
        texts = _texts([each for each in found if each is not None], scale)
        if None not in found:
            return texts
        rest = iter(texts.to_pylist())
        return texts_of([None if each is None else next(rest) for each in found])

    source = _source({path: _Histogram}, ("esmond", msgspec.Raw | None, None))
    return Typed(source, column)


def _texts(found: Sequence[_Histogram], scale: float) -> pa.Array:
    """JSON texts, with the numbers of buckets as elmond writes them."""
    lengths = [len(each.values) for each in found]
    if lengths != [len(each.counts) for each in found]:
        raise Unfit
    offsets = array("i", accumulate(lengths, initial=0))
    buckets = number_column(array("d", chain.from_iterable([each.values for each in found])))
    falls = pc.indices_nonzero(pc.less_equal(buckets[1:], buckets[:-1])).to_pylist()
    if not {row + 1 for row in falls} <= set(offsets):  # a bucket may be there twice
        raise Unfit
    different = buckets.dictionary_encode()
    names = texts_of([_encode(str(each * scale)).decode() for each in different.dictionary.to_pylist()]).take(different.indices)
    counts = array("q", chain.from_iterable([each.counts for each in found]))
    numbers = pa.Array.from_buffers(pa.int64(), len(counts), [None, pa.py_buffer(counts)]).cast(pa.string())
    members = pc.binary_join_element_wise(names, numbers, ":")
    joined = list_texts(pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)]), members)
    return pc.binary_join_element_wise("{", joined, "}", "")


def _dotted(path: Path) -> str:
    return ".".join(("source", "result", *path))


def _source(leaves: dict[Path, Any], *more: tuple[str, Any, Any]) -> type[msgspec.Struct]:
    """A type of documents with fields of `result`, each of which may be missing."""
    tree: dict[str, Any] = {}
    for path, kind in leaves.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = kind
    return msgspec.defstruct("Source", [_field("result", tree), *more], gc=False)


def _field(name: str, kind: Any) -> tuple[str, Any, Any]:
    if not isinstance(kind, dict):
        return (name, kind | None, None)
    made = msgspec.defstruct(name.title(), [_field(*each) for each in kind.items()], gc=False)
    return (name, made, msgspec.field(default_factory=made))
