"""From documents back to datapoints: elmond's answers, and the document's own values where elmond fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from esmond_etl import Series, event_type
from esmond_etl_opensearch.codec import places, values
from esmond_etl_opensearch.codec.places import DOCUMENT, FAILURES, RAW, RUN_HREF, Path

#: The value read from a document without one.
MISSING: Final = object()

_ORIGINALS: Final = "esmond.json.values"


def fields(series: Series) -> list[str]:
    """The fields of documents for the values of `series`, as `_source` names them."""
    name, kind = series.event_type, places.test_type(series.metadata) or ""
    if name == DOCUMENT:
        return ["*"]
    if name == RUN_HREF:
        return ["pscheduler.run_href", "result.succeeded", f"{_ORIGINALS}.{name}"]
    path = places.place(kind, name)
    if path is None:
        return [f"{_ORIGINALS}.{name}"]
    if series.summary.type == "statistics":
        return [".".join(("result", *places.STATISTICS[name][0], short)) for short in places.STATISTIC_NAMES]
    found = [".".join(("result", *each)) for each in _paths(name, path)]
    if event_type(name).is_number:
        return found
    return [*found, f"{_ORIGINALS}.{name}", *(["result.succeeded"] if name == FAILURES else [])]


def _paths(name: str, path: Path) -> list[Path]:
    found = [path, *([places.ALSO_AT[path]] if path in places.ALSO_AT else [])]
    if name.startswith("packet-loss-rate"):
        found += places.UDP_PACKETS
    return found


def condition(series: Series) -> list[dict[str, Any]]:
    """The condition of a query for documents that may have values of `series`."""
    if series.event_type == FAILURES:
        return [{"bool": {"should": [{"term": {"result.succeeded": False}}, {"exists": {"field": "result.error"}}]}}]
    if series.event_type in (RUN_HREF, DOCUMENT):
        return []
    return [{"term": {"result.succeeded": True}}]


def reader(series: Series) -> Callable[[Mapping[str, Any]], Any]:
    """A function from the fields of a document to the value of `series`: a number, or an object; MISSING if there is none."""
    name, kind = series.event_type, places.test_type(series.metadata) or ""
    if name == DOCUMENT:
        return lambda document: document
    if name == RUN_HREF:
        return lambda document: _original(document, name, _run_href)
    path = places.place(kind, name)
    if path is None:
        return lambda document: _original(document, name, lambda _: MISSING)
    if series.summary.type == "statistics":
        place, scale = places.STATISTICS[name]
        return lambda document: _or_missing(values.statistics(_at(document, place) or {}, places.STATISTIC_NAMES, scale))
    if event_type(name).is_number:
        return _numbers(name, path)
    plain = _PLAIN[name] if name in _PLAIN else lambda field: _histogram(field, name)
    return lambda document: _original(document, name, lambda whole: _made(plain, whole, path))


def _original(document: Mapping[str, Any], name: str, plain: Callable[[Mapping[str, Any]], Any]) -> Any:
    """The value as esmond had it, if the document has that; otherwise the result of `plain`."""
    kept = ((document.get("esmond") or {}).get("json") or {}).get("values") or {}
    if name in kept:
        return _or_missing(kept[name])
    return plain(document)


#: The result of a run that a field needs: an error needs a failed run, a whole result a successful one.
_NEEDED: Final[dict[Path, bool]] = {("error",): False, (): True}


def _made(plain: Callable[[Any], Any], document: Mapping[str, Any], path: Path) -> Any:
    if path in _NEEDED and _at(document, ("succeeded",)) is not _NEEDED[path]:
        return MISSING
    field = _at(document, path)
    return MISSING if field is None else _or_missing(plain(field))


def _or_missing(value: Any) -> Any:
    return MISSING if value is None else value


def _at(document: Mapping[str, Any], path: Path) -> Any:
    field: Any = document.get("result")
    for name in path:
        field = field.get(name) if isinstance(field, dict) else None
    return field


def _run_href(document: Mapping[str, Any]) -> Any:
    if _at(document, ("succeeded",)) is False:
        return MISSING
    return _or_missing((document.get("pscheduler") or {}).get("run_href"))


def _numbers(name: str, path: Path) -> Callable[[Mapping[str, Any]], Any]:
    paths = [path, *([places.ALSO_AT[path]] if path in places.ALSO_AT else [])]

    def number(document: Mapping[str, Any]) -> Any:
        found = next((value for each in paths if (value := _at(document, each)) is not None), None)
        if found is None and name.startswith("packet-loss-rate"):
            sent, lost = (_at(document, each) for each in places.UDP_PACKETS)
            found = lost / sent if sent and lost is not None else None
        return MISSING if found is None else found

    return number


def _histogram(field: Any, name: str) -> Any:
    return values.histogram(field, places.STATISTICS[name][1])


def _subintervals(name: str) -> Callable[[Any], Any]:
    return lambda field: values.subintervals(field, name)


def _streams(name: str) -> Callable[[Any], Any]:
    return lambda field: values.streams(field, name)


_PLAIN: Final[dict[str, Callable[[Any], Any]]] = {
    FAILURES: lambda field: {"error": field},
    RAW: lambda field: field,
    "packet-trace": lambda field: values.trace(field[0]) if field else None,
    "packet-trace-multi": lambda field: [values.trace(path) for path in field],
}
for _name, _path in places.PLACES["throughput"].items():
    if _path[-1] == "json":
        _PLAIN[_name] = _subintervals(_name) if _path[0] == "intervals" else _streams(_name)
