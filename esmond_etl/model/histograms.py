"""Statistics of histograms, in columns.

The definitions are those of esmond's own `statistics` summaries, as its recorded answers show them: variance and standard deviation
are those of the whole population; a percentile p of n samples stands at rank p / 100 * (n + 1), a broken rank lies between two
samples in proportion, and one before the first or after the last sample is that sample; the modes are all buckets of the greatest
count. A bucket that counts nothing is none.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl.model.columns import int_column, number_column
from esmond_etl.model.series import Series

#: Every statistic, by the name that it has in an archive's answers.
STATISTICS: Final = (
    "minimum",
    "maximum",
    "mean",
    "median",
    "mode",
    "percentile-25",
    "percentile-75",
    "percentile-95",
    "standard-deviation",
    "variance",
)

_PERCENT: Final = {"percentile-25": 25, "median": 50, "percentile-75": 75, "percentile-95": 95}

#: A histogram as a list: Arrow has more functions for lists than for maps.
_ENTRIES: Final = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.int64())]))

#: The default of `sample-bucket-width`, s: with it, buckets of one-way delay are milliseconds.
MILLISECOND: Final = 0.001


def bucket_width(series: Series) -> float:
    """How many milliseconds (hops, for a TTL) the number that names a bucket stands for.

    Since pScheduler, tools count one-way delay in buckets of `sample-bucket-width` seconds, all but halfping. Raises ValueError,
    naming the series, if that width is no positive number.
    """
    tool = series.metadata.tool_name or ""
    if series.event_type != "histogram-owdelay" or not tool.startswith("pscheduler/") or tool == "pscheduler/halfping":
        return 1.0
    width = series.metadata.parameters.get("sample-bucket-width")
    number = MILLISECOND if width is None else _number(width)
    if not 0 < number < math.inf:
        raise ValueError(f"{series}: sample-bucket-width is not a valid width: {width!r}")
    return number / MILLISECOND


def statistics(histograms: pa.Array, names: Iterable[str] = STATISTICS, width: float = 1.0) -> dict[str, pa.Array]:
    """The statistics `names` of `histograms` (map<string, int64>), a column each, in the unit of `width`.

    All are float64, except `mode`, an ascending list<double>. They are null for a histogram that counts nothing, or that has a bucket
    whose name is no number.
    """
    samples = _Samples(histograms, width)
    return {name: samples.expanded(samples.column(name)) for name in names}


class _Samples:
    """The buckets of many histograms in three columns, ordered by histogram and then by bucket; only histograms that have statistics.

    `row` numbers these histograms from 0. Methods return a value for each of them, in order.
    """

    def __init__(self, histograms: pa.Array, width: float) -> None:
        row, names, count = entries(histograms)
        bucket = _buckets(names)
        words = row.filter(pc.is_nan(bucket))
        counts = pc.greater(count, 0)
        mask = pc.and_(counts, pc.invert(pc.is_in(row, words))) if len(words) else counts
        if not pc.all(mask).as_py():
            row, bucket, count = row.filter(mask), bucket.filter(mask), count.filter(mask)
        row, bucket, self.count = _in_order(row, bucket, count)
        self.bucket = pc.multiply(bucket, width)
        self._all = len(histograms)
        self._is_first = _changes(row)
        self._kept = row.filter(self._is_first)
        self.row = pc.subtract(pc.cumulative_sum(self._is_first.cast(pa.int64())), 1)

    def expanded(self, column: pa.Array) -> pa.Array:
        """A value for each of the original histograms, null for those without statistics."""
        if len(self._kept) == self._all:
            return column
        everyone = array("q", range(self._all))
        return column.take(pc.index_in(int_column(everyone), self._kept))

    def column(self, name: str) -> pa.Array:
        """The statistic that archives call `name`."""
        if name in _PERCENT:
            return self.percentile(_PERCENT[name])
        column: pa.Array = getattr(self, name.replace("-", "_"))
        return column

    @cached_property
    def _summed(self) -> dict[str, pa.Array]:
        """The sum and the greatest of the counts, and the sum of all samples, of each histogram."""
        columns = {"count": self.count, "samples": pc.multiply(self.bucket, self.count)}
        return self._grouped(columns, [("count", "sum"), ("count", "max"), ("samples", "sum")])

    @property
    def total(self) -> pa.Array:
        """How many samples there are."""
        return self._summed["count_sum"]

    @cached_property
    def before(self) -> pa.Array:
        """For each bucket, how many samples of its histogram lie in the buckets before it."""
        before = pc.subtract(pc.cumulative_sum(self.count), self.count)
        return pc.subtract(before, before.filter(self._is_first).take(self.row))

    @cached_property
    def until(self) -> pa.Array:
        """For each bucket, how many samples of its histogram lie in it and in the buckets before it."""
        return pc.add(self.before, self.count)

    @cached_property
    def mean(self) -> pa.Array:
        """The sum of all samples over their number."""
        return pc.divide(self._summed["samples_sum"], self.total)

    @cached_property
    def variance(self) -> pa.Array:
        """The mean square of the samples' distances from their mean."""
        distance = pc.subtract(self.bucket, self.mean.take(self.row))
        squares = pc.multiply(pc.multiply(distance, distance), self.count)
        return pc.divide(self._grouped({"squares": squares}, [("squares", "sum")])["squares_sum"], self.total)

    @property
    def standard_deviation(self) -> pa.Array:
        """The square root of the variance."""
        return pc.sqrt(self.variance)

    @property
    def minimum(self) -> pa.Array:
        """The first sample."""
        return self.bucket.filter(self._is_first)

    @property
    def maximum(self) -> pa.Array:
        """The last sample."""
        return self.bucket.filter(pa.concat_arrays([self._is_first[1:], pa.repeat(True, min(1, len(self.row)))]))

    @property
    def mode(self) -> pa.Array:
        """The buckets that hold the most samples."""
        most = pc.equal(self.count, self._summed["count_max"].take(self.row))
        starts = pc.indices_nonzero(_changes(self.row.filter(most))).cast(pa.int32())
        ends = int_column(array("i", [pc.sum(most).as_py() or 0]))
        return pa.ListArray.from_arrays(pa.concat_arrays([starts, ends]), self.bucket.filter(most))

    def percentile(self, percent: int) -> pa.Array:
        """The value below which `percent` of 100 samples lie."""
        rank = pc.multiply(pc.add(self.total, 1).cast(pa.float64()), percent / 100)
        whole = pc.floor(rank)
        low = self._place(whole)
        # the next sample lies in the same bucket or in the next one
        goes_on = pc.less(self.until.take(low), self._bounded(pc.add(whole, 1)))
        values = self.bucket.take(low), self.bucket.take(pc.add(low, goes_on.cast(low.type)))
        return pc.add(values[0], pc.multiply(pc.subtract(rank, whole), pc.subtract(values[1], values[0])))

    def _place(self, rank: pa.Array) -> pa.Array:
        """The places of the buckets that hold the samples at `rank`, counted from 1; of the first or the last for a rank beyond."""
        wanted = self._bounded(rank).take(self.row)
        return pc.indices_nonzero(pc.and_(pc.less(self.before, wanted), pc.less_equal(wanted, self.until)))

    def _bounded(self, rank: pa.Array) -> pa.Array:
        return pc.max_element_wise(pc.min_element_wise(rank.cast(pa.int64()), self.total), 1)

    def _grouped(self, columns: dict[str, pa.Array], wanted: list[tuple[str, str]]) -> dict[str, pa.Array]:
        # one thread: the order of the additions, and so the result, is always the same, and histograms stay in order
        table = pa.table({"row": self.row, **columns}).group_by("row", use_threads=False).aggregate(wanted)
        return {name: table[name].combine_chunks() for name in table.schema.names}


def entries(histograms: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """For every bucket of every histogram (map<string, int64>): the histogram's number, the bucket's name, and its count."""
    lists = histograms.cast(_ENTRIES)
    flat = pc.list_flatten(lists)
    return pc.list_parent_indices(lists), pc.struct_field(flat, 0), pc.struct_field(flat, 1)


def _buckets(names: pa.Array) -> pa.Array:
    """The names of buckets as numbers; NaN for a name that is not a number."""
    different = names.dictionary_encode()
    return number_column(array("d", map(_number, different.dictionary.to_pylist()))).take(different.indices)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _in_order(row: pa.Array, bucket: pa.Array, count: pa.Array) -> tuple[pa.Array, ...]:
    falls = pc.and_(pc.less(bucket[1:], bucket[:-1]), pc.equal(row[1:], row[:-1]))
    if not pc.any(falls).as_py():
        return row, bucket, count
    table = pa.table({"row": row, "bucket": bucket, "count": count})
    return tuple(column.combine_chunks() for column in table.sort_by([("row", "ascending"), ("bucket", "ascending")]).columns)


def _changes(row: pa.Array) -> pa.Array:
    """A mask that is true where a row differs from the one before it."""
    return pc.not_equal(row, pa.concat_arrays([pc.subtract(row[:1], 1), row[:-1]]))
