"""Statistics of histograms."""

from typing import ClassVar, Literal

import msgspec
import pyarrow.compute as pc
from pydantic import Field

from esmond_etl import Batch, BatchTransform, Series, SourceError, Summary, histograms, json_column
from esmond_etl_transforms.fields import with_field
from esmond_etl_transforms.opening import opened


class HistogramStats(BatchTransform):
    """Turn each histogram into one of its statistics, or into all of them, as esmond defines these, but in true milliseconds.

    Delays are milliseconds whatever the width of the buckets was (variances their squares), and the series says so: its
    `sample-bucket-width` becomes 0.001, so that nobody converts them again. A TTL stays in hops. One statistic leaves the series its
    name, its values are numbers from here on; of several modes the least is taken, and a histogram that has no statistics, because
    it counts nothing or its buckets are words, is left out. With "all", the series becomes one of statistics as archives have them,
    that of base data statistics/0, that of aggregation/3600 statistics/3600, with {} for a histogram that has none. Without
    `event_types` these are all series of histograms, and any other series passes as it is.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "histogram_stats"
        event_types = ["histogram-owdelay"]
        statistic = "median"
    """

    statistic: Literal[
        "all",
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
    ] = Field("all", description="one statistic, as a number; or all of them, as JSON")

    def becomes(self, series: Series) -> Series:
        """The series of statistics for all statistics, otherwise the same series; its `sample-bucket-width` is set to milliseconds."""
        if series.data_type != "histogram":
            return series
        if self.statistic == "all":
            series = series.replace(summary=Summary("statistics", series.summary.window))
        if "sample-bucket-width" not in series.metadata.parameters or series.event_type != "histogram-owdelay":
            return series
        return series.replace(metadata=with_field(series.metadata, "sample-bucket-width", str(histograms.MILLISECOND)))

    def apply_batch(self, batch: Batch) -> Batch:
        """The statistics at the same moments."""
        found = opened(batch, self)
        if found is None:
            return batch
        try:
            width = histograms.bucket_width(batch.series)
        except ValueError as error:
            raise SourceError(str(error)) from None
        result = self._all(found, width) if self.statistic == "all" else self._one(found, width)
        return result.with_series(self.becomes(batch.series))

    def _all(self, batch: Batch, width: float) -> Batch:
        columns = histograms.statistics(batch.val, histograms.STATISTICS, width)
        encode = msgspec.json.Encoder().encode
        rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
        return batch.with_val(
            json_column([b"{}" if row[0] is None else encode(dict(zip(histograms.STATISTICS, row, strict=True))) for row in rows])
        )

    def _one(self, batch: Batch, width: float) -> Batch:
        val = histograms.statistics(batch.val, [self.statistic], width)[self.statistic]
        if self.statistic == "mode":
            val = pc.list_element(val, 0)
        return batch.with_val(val).filter(pc.is_valid(val))
