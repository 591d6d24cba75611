"""The datapoints of one series for the doctor: a few numbers of each."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nsmallest
from itertools import accumulate, pairwise
from statistics import median
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model import histograms
from esmond_etl.model.batch import Batch
from esmond_etl.model.series import BASE, Series

#: Histograms whose buckets are delays.
DELAYS: Final = frozenset({"histogram-owdelay", "histogram-rtt"})

#: This many of the smallest digests of a series' datapoints tell how much two series have in common: a bottom-k sketch.
SKETCH: Final = 256


@dataclass
class Course:
    """The values of a series over time."""

    series: Series
    ts: array[int] = field(default_factory=lambda: array("q"))  #: Unix time
    val: array[float] = field(default_factory=lambda: array("d"))  #: the number; of a histogram the smallest delay, ms; NaN: none
    median: array[float] = field(default_factory=lambda: array("d"))  #: of a histogram, ms
    total: array[int] = field(default_factory=lambda: array("q"))  #: how many packets a histogram counts
    sketch: list[int] = field(default_factory=list)

    @property
    def at(self) -> dict[int, float]:
        """Unix time -> value."""
        return dict(zip(self.ts, self.val, strict=True))


def is_examined(series: Series) -> bool:
    """Whether the doctor has a rule for `series`."""
    return series.summary == BASE and (series.holds_numbers or series.event_type in DELAYS)


def follow(series: Series, batches: Iterable[Batch]) -> Course:
    """The course of `series`; raises ValueError if a value is not what its event type says, and what `batches` raises."""
    course = Course(series)
    for batch in batches:
        course.ts.extend(batch.moments)
        if series.event_type in DELAYS:
            _add_delays(course, batch)
        else:
            course.val.extend(value if value is not None else math.nan for value in batch.val.to_pylist())
        course.sketch = nsmallest(SKETCH, {*course.sketch, *_digests(batch)})
    return course


def _add_delays(course: Course, batch: Batch) -> None:
    opened = batch.opened().val
    found = histograms.statistics(opened, ("minimum", "median"), histograms.bucket_width(course.series))
    for name, column in (("minimum", course.val), ("median", course.median)):
        column.extend(value if value is not None else math.nan for value in found[name].to_pylist())
    sums = [0, *accumulate(pc.struct_field(pa.array(opened.cast(_ENTRIES).flatten()), 1).to_pylist())]
    first = opened.offsets[0].as_py() if len(opened) else 0
    course.total.extend(sums[end - first] - sums[start - first] for start, end in pairwise(opened.offsets.to_pylist()))


_ENTRIES: Final = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.int64())]))


def _digests(batch: Batch) -> Iterator[int]:
    """A digest of each datapoint."""
    for ts, val in zip(batch.moments, batch.val.to_pylist(), strict=True):
        yield int.from_bytes(blake2b(f"{ts} {val}".encode(), digest_size=8).digest())


@dataclass(frozen=True)
class Summary:
    """The summary of an examined series, for the rules that need all series."""

    series: Series
    first: int  #: Unix time
    last: int
    count: int
    spacing: float  #: usual time between datapoints, s
    sketch: tuple[int, ...]

    @classmethod
    def of(cls, course: Course) -> Summary | None:
        """The summary of a course; None if it has no datapoints."""
        if not course.ts:
            return None
        spacing = median(after - before for before, after in pairwise(course.ts)) if len(course.ts) > 1 else math.inf
        return cls(course.series, course.ts[0], course.ts[-1], len(course.ts), spacing, tuple(course.sketch))
