"""Numbers at regular intervals."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from esmond_etl import NUMBER, TS, Batch, Duration, Series, Summary, Transform
from esmond_etl_transforms.buckets import bucket_starts, whole_buckets
from esmond_etl_transforms.only_numbers import are_numbers


class Resample(Transform):
    """One number for each `period`: the mean, min, max, sum or count of its values, at the period's start.

    A period without values has none. Periods start at the multiples of their length since 1970 in UTC, and a mean gives every
    datapoint the same weight. The series keeps its name; only the mean of averages and the sum of aggregations get the name that an
    archive has for them, such as average/3600. Without `event_types` this applies to all series of numbers; any other series passes
    unchanged. A series that `event_types` names and that does not hold numbers is an error.
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

    period: Duration = Field(gt=0, description="time of one resulting datapoint; the pipeline's window must be a multiple of it")
    how: Literal["mean", "min", "max", "sum", "count"] = Field("mean", description="how the values of a period are combined")

    def becomes(self, series: Series) -> Series:
        """The same series; for averages or aggregations, the one over the period."""
        whole = (series.summary.type, self.how) in (("average", "mean"), ("aggregation", "sum"))
        if whole and series.holds_numbers and self.period > series.summary.window:
            return series.replace(summary=Summary(series.summary.type, self.period))
        return series

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """One datapoint per period."""
        for batch in whole_buckets(batches, self.period):
            yield self._resampled(batch) if are_numbers(batch, self) else batch

    def _resampled(self, batch: Batch) -> Batch:
        table = pa.table({"start": bucket_starts(batch.ts, self.period), "val": batch.val})
        # one thread, so that values are always added in the same order
        grouped = table.group_by("start", use_threads=False).aggregate([("val", self.how)]).sort_by("start")
        start, val = grouped["start"].combine_chunks(), grouped[f"val_{self.how}"].combine_chunks()
        return Batch.of(self.becomes(batch.series), start.cast(TS), val.cast(NUMBER))
