"""Sums of histograms over longer times."""

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from esmond_etl import Batch, Duration, Series, Summary, Transform, histograms, json_column, ts_column
from esmond_etl_transforms.buckets import bucket_starts, whole_buckets
from esmond_etl_transforms.opening import opened


class MergeHistograms(Transform):
    """Add up the histograms of each `period`, bucket by bucket; the result is at the start of the period.

    A period without histograms has none. Periods start at the multiples of their length since 1970 in UTC. Base data keep their
    name, so that an archive accepts them; with a period of an hour, aggregation/300 becomes aggregation/3600. Without `event_types`
    this applies to all series of histograms; any other series passes unchanged.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "merge_histograms"
        event_types = ["histogram-owdelay"]
        period = "1h"
    """

    divides_window: ClassVar[tuple[str, ...]] = ("period",)

    period: Duration = Field(gt=0, description="time of one merged histogram; the pipeline's window must be a multiple of it")

    def becomes(self, series: Series) -> Series:
        """The same series; the aggregation over the period if it is one over a shorter time."""
        if series.data_type == "histogram" and 0 < series.summary.window < self.period:
            return series.replace(summary=Summary(series.summary.type, self.period))
        return series

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """One histogram per period."""
        for batch in whole_buckets(batches, self.period):
            histograms = opened(batch, self)
            yield batch if histograms is None else self._merged(histograms)

    def _merged(self, batch: Batch) -> Batch:
        starts = bucket_starts(batch.ts, self.period)
        row, bucket, count = histograms.entries(batch.val)
        table = pa.table({"start": starts.take(row), "bucket": bucket, "count": count})
        merged: dict[int, dict[str, int]] = {start: {} for start in pc.unique(starts).to_pylist()}
        sums = table.group_by(["start", "bucket"]).aggregate([("count", "sum")])
        for start, name, total in zip(*(sums[name].to_pylist() for name in ("start", "bucket", "count_sum")), strict=True):
            merged[start][name] = total
        encode = msgspec.json.Encoder().encode
        val = json_column([encode(dict(sorted(histogram.items(), key=_place))) for histogram in merged.values()])
        return Batch.of(self.becomes(batch.series), ts_column(array("q", merged)), val)


def _place(entry: tuple[str, int]) -> tuple[float, str]:
    """The sort key of a bucket: numbers ascending, then words."""
    try:
        return float(entry[0]), entry[0]
    except ValueError:
        return math.inf, entry[0]
