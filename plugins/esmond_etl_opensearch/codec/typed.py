"""Documents decoded straight into columns: for numbers, histograms, failures and runs, which are most of what archives hold.

A page that does not fit these types, and one with values that are kept as esmond had them, is read by `codec.reading` instead.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Series, bool_column, event_type, nullable_number_column, nullable_text_column, number_column
from esmond_etl_opensearch.codec import buckets, places
from esmond_etl_opensearch.codec.places import FAILURES, RUN_HREF, Path

_encode: Final = msgspec.json.Encoder().encode


_NULL: Final = msgspec.Raw(b"null")


class Unfit(Exception):
    """A page that must be read document by document."""


#: Takes hits, and whether the run of each succeeded; returns a value for each, or null. Raises Unfit.
Column = Callable[[Sequence[Any], Sequence[bool | None]], pa.Array]


class Typed(NamedTuple):
    """How documents become a column."""

    fields: Mapping[Path, Any]  #: the fields of a document, and their types
    column: Column


def typed(series: Series) -> Typed | None:
    """How documents become a column of `series`; None if they must be read one by one."""
    if series.summary.type == "statistics":
        return None
    return _typed(series.event_type, _kind(series))


def source(together: Sequence[Series]) -> type[msgspec.Struct]:
    """The type of documents with the fields of several series of one test, all of which are `typed`."""
    return _source(tuple(series.event_type for series in together), _kind(together[0]))


def _kind(series: Series) -> str:
    return places.test_type(series.metadata) or ""


@cache
def _typed(name: str, kind: str) -> Typed | None:
    if name in (RUN_HREF, FAILURES):
        return _run_hrefs() if name == RUN_HREF else _failures()
    path = places.place(kind, name)
    if not path:
        return None
    if event_type(name).is_number:
        return _of_successes(_numbers(name, path))
    return _of_successes(_histograms(name, path)) if event_type(name).data_type == "histogram" else None


def _of_successes(way: Typed) -> Typed:
    """The same, but only of runs that succeeded."""

    def column(hits: Sequence[Any], succeeded: Sequence[bool | None]) -> pa.Array:
        values = way.column(hits, succeeded)
        if succeeded.count(True) == len(succeeded):
            return values
        return pc.if_else(bool_column(succeeded), values, pa.scalar(None, values.type))

    return Typed({**way.fields, **_SUCCEEDED}, column)


def _run_hrefs() -> Typed:
    original = ("esmond", "json", "values", RUN_HREF)
    get, kept = _getter("pscheduler", "run_href"), _getter(*original)

    def column(hits: Sequence[Any], succeeded: Sequence[bool | None]) -> pa.Array:
        _no_originals(list(map(kept, hits)))
        found = [None if done is False else get(hit) for hit, done in zip(hits, succeeded, strict=True)]
        return nullable_text_column([None if each is None else _encode(each).decode() for each in found])

    return Typed({("pscheduler", "run_href"): str, original: Any, **_SUCCEEDED}, column)


def _failures() -> Typed:
    original = ("esmond", "json", "values", FAILURES)
    get, kept = _getter("result", "error"), _getter(*original)

    def column(hits: Sequence[Any], succeeded: Sequence[bool | None]) -> pa.Array:
        _no_originals(list(map(kept, hits)))
        if not succeeded.count(False):
            return pa.nulls(len(hits), pa.string())
        found = [get(hit) if done is False else None for hit, done in zip(hits, succeeded, strict=True)]
        return nullable_text_column([None if each is None else _encode({"error": each}).decode() for each in found])

    return Typed({("result", "error"): str, original: Any, **_SUCCEEDED}, column)


def _no_originals(kept: list[Any]) -> None:
    """Raise Unfit if a document keeps a value as esmond had it."""
    if kept.count(msgspec.UNSET) < len(kept):
        raise Unfit


def _numbers(name: str, path: Path) -> Typed:
    others = [places.ALSO_AT[path]] if path in places.ALSO_AT else []
    counts = list(places.UDP_PACKETS) if name.startswith("packet-loss-rate") else []
    first, *rest = (_getter("result", *each) for each in (path, *others))
    sent, lost = (_getter("result", *each) for each in counts) if counts else (None, None)

    def other(hit: Any) -> float | None:
        found = next((value for get in rest if (value := get(hit)) is not None), None)
        if found is None and sent and lost and sent(hit) and lost(hit) is not None:
            return float(lost(hit) / sent(hit))
        return found

    def column(hits: Sequence[Any], _: Sequence[bool | None]) -> pa.Array:
        values = list(map(first, hits))
        if None not in values:
            return number_column(array("d", values))
        if not (rest or sent):
            return nullable_number_column(values)
        return nullable_number_column([other(hit) if each is None else each for each, hit in zip(values, hits, strict=True)])

    return Typed({("result", *each): float for each in (path, *others, *counts)}, column)


def _histograms(name: str, path: Path) -> Typed:
    original = ("esmond", "json", "values", name)
    get, kept = _getter("result", *path), _getter(*original)
    scale = places.STATISTICS[name][1]

    def column(hits: Sequence[Any], _: Sequence[bool | None]) -> pa.Array:
        _no_originals(list(map(kept, hits)))
        found: list[msgspec.Raw | None] = [None if each == _NULL else each for each in map(get, hits)]
        if found.count(None) == len(found):
            return pa.nulls(len(found), pa.string())
        texts = _texts([each for each in found if each is not None], scale)
        if None not in found:
            return texts
        rest = iter(texts.to_pylist())
        return nullable_text_column([None if each is None else next(rest) for each in found])

    return Typed({("result", *path): msgspec.Raw, original: Any}, column)


def _texts(found: Sequence[msgspec.Raw], scale: float) -> pa.Array:
    try:
        texts = buckets.texts(found, scale)
    except msgspec.MsgspecError:
        raise Unfit from None
    if texts is None:
        raise Unfit
    return texts


def _getter(*path: str) -> Callable[[Any], Any]:
    return attrgetter(".".join(("source", *map(_attribute, path))))


def _attribute(name: str) -> str:
    return name.replace("-", "_")


@cache
def _source(names: tuple[str, ...], kind: str) -> type[msgspec.Struct]:
    tree: dict[str, Any] = {}
    for each in filter(None, (_typed(name, kind) for name in names)):
        for path, leaf in each.fields.items():
            branch = tree
            for name in path[:-1]:
                branch = branch.setdefault(name, {})
            branch[path[-1]] = leaf
    return _struct("Source", tree)


def _struct(name: str, tree: Mapping[str, Any]) -> type[msgspec.Struct]:
    """A type with a field for each branch, any of which may be missing."""
    return msgspec.defstruct(name, [_field(*each) for each in tree.items()], gc=False)


def _field(name: str, kind: Any) -> tuple[str, Any, Any]:
    if kind is Any:
        return (_attribute(name), Any, msgspec.field(name=name, default=msgspec.UNSET))
    if kind is msgspec.Raw:
        return (_attribute(name), kind, msgspec.field(name=name, default=_NULL))
    if not isinstance(kind, dict):
        return (_attribute(name), kind | None, msgspec.field(name=name, default=None))
    made = _struct(_attribute(name).title(), kind)
    return (_attribute(name), made, msgspec.field(name=name, default_factory=made))


_SUCCEEDED: Final[Mapping[Path, Any]] = {("result", "succeeded"): bool}

_done: Final = _getter("result", "succeeded")


def succeeded(hits: Sequence[Any]) -> list[bool | None]:
    """Whether the run of each hit succeeded; None where it does not say so."""
    return list(map(_done, hits))
