"""Numbers at a steady pace."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from esmond_etl import NUMBER, TS, Batch, Duration, Series, Summary, Transform
from esmond_etl_transforms.buckets import bucket_starts, whole_buckets
from esmond_etl_transforms.only_numbers import are_numbers


class Resample(Transform):
    """One number for each `period` that has any: the mean, min, max, sum or count of its values, at the period's start.

    Periods start at the multiples of their length since 1970 in UTC, and a mean weighs every datapoint alike. The series keeps its
    name; only the mean of averages and the sum of aggregations get the name that an archive has for them, such as average/3600.
    Without `event_types` these are all series of numbers, and any other series passes as it is; one that is no series of numbers
    although `event_types` names it is an error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "resample"
        event_types = ["throughput"]
        period = "1h"
        how = "mean"
    """

    divides_window: ClassVar[tuple[str, ...]] = ("period",)

    period: Duration = Field(gt=0, description="time that becomes one datapoint; the pipeline's window must be a multiple of it")
    how: Literal["mean", "min", "max", "sum", "count"] = Field("mean", description="what becomes of the values of a period")

    def becomes(self, series: Series) -> Series:
        """The same series, of averages or aggregations that of the period."""
        whole = (series.summary.type, self.how) in (("average", "mean"), ("aggregation", "sum"))
        if whole and series.holds_numbers and self.period > series.summary.window:
            return series.replace(summary=Summary(series.summary.type, self.period))
        return series

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """One datapoint a period."""
        for batch in whole_buckets(batches, self.period):
            yield self._resampled(batch) if are_numbers(batch, self) else batch

    def _resampled(self, batch: Batch) -> Batch:
        table = pa.table({"start": bucket_starts(batch.ts, self.period), "val": batch.val})
        # one thread: values are summed up in their order
        grouped = table.group_by("start", use_threads=False).aggregate([("val", self.how)]).sort_by("start")
        start, val = grouped["start"].combine_chunks(), grouped[f"val_{self.how}"].combine_chunks()
        return Batch.of(self.becomes(batch.series), start.cast(TS), val.cast(NUMBER))
