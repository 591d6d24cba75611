"""Datapoints to test with, and the ways to send them through a transform and into a sink."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from esmond_etl.model.batch import Batch, DataPoint
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Metadata, Series, Served, Summary
from esmond_etl.plugin.sink import Load, Receipt, Sink, Task
from esmond_etl.plugin.stage import Context
from esmond_etl.plugin.transform import Transform

DAY: Final = 86400
START: Final = 1388534400  #: 2014-01-01

Points = Sequence[tuple[int, Any]]


def series(event_type: str = "throughput", summary: str = "base", key: str = "a1", **parameters: Any) -> Series:
    """A series of made-up metadata between two hosts; `parameters` become its free-form parameters."""
    kind = Summary.parse(summary)
    source, destination = "192.0.2.1", "192.0.2.2"
    offered = {event_type: {Summary(): Served(f"/{key}/{event_type}/base"), kind: Served(f"/{key}/{event_type}/{kind}")}}
    ends = (source, destination, source, "pscheduler/iperf3", source, destination)
    return Series(Metadata(key, "point-to-point", *ends, {"key": key, **parameters}, offered), event_type, kind)


def points_of(batches: Iterable[Batch]) -> list[DataPoint]:
    """All datapoints of `batches` as Python objects: JSON text decoded, opened histograms as dicts."""
    return [DataPoint(ts, _plain(val)) for batch in batches for ts, val in batch.to_points()]


def _plain(val: Any) -> Any:
    opened = isinstance(val, list) and val and all(isinstance(each, tuple) for each in val)
    return dict(val) if opened else val


def through(transform: Transform, given: Series, *pages: Points) -> list[DataPoint]:
    """What a transform makes of the datapoints of a series, which come to it page by page."""
    transform.open(Context())
    try:
        return points_of(transform.apply(Batch.from_points(given, page) for page in pages))
    finally:
        transform.close()


def deliver(sink: Sink, given: Mapping[Series, Points], interval: Interval, window: int = DAY) -> Receipt:
    """Deliver the datapoints of some series in one task of an open sink, and return the receipt."""
    load = sink.begin(Task(tuple(given), interval, window))
    for each, points in given.items():
        write(load, each, points)
        load.end(each)
    return load.commit()


def write(load: Load, given: Series, points: Points) -> None:
    """Write the datapoints of one series, in two batches."""
    half = len(points) // 2
    for page in (points[:half], points[half:]):
        if page:
            load.write(Batch.from_points(given, page))


def skip(reason: str) -> NoReturn:
    """End the test that is under way as one that does not apply."""
    import pytest  # the suites alone need it

    pytest.skip(reason)
