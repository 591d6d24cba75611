"""Removal of repeated datapoints."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from esmond_etl import Batch, Duration, Transform
from esmond_etl_transforms.buckets import bucket_starts, joined, tail


class Dedupe(Transform):
    """Keep only the first datapoint of each second; with `period`, also leave out values that repeat the one before.

    The first value of each period is kept even if it repeats, so the result does not depend on how much time is read at once. A
    series from an esmond archive has at most one datapoint per second, one from perfSONAR 5 may have several.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "dedupe"
        event_types = ["path-mtu"]
        period = "1d"
    """

    divides_window: ClassVar[tuple[str, ...]] = ("period",)

    period: Duration | None = Field(
        None,
        gt=0,
        description="leave out repeated values, but keep the first in each such time; the pipeline's window must be a multiple of it",
    )

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The datapoints that are kept."""
        before: list[Batch] = []  # the last datapoint so far
        for batch in batches:
            if not len(batch):
                yield batch
                continue
            together = joined([*before, batch])
            alone = together.filter(_and_first(together, pc.not_equal(together.ts[1:], together.ts[:-1])))
            kept = alone if self.period is None else alone.filter(self._new(alone, self.period))
            yield Batch(kept.series, kept.points.slice(len(before)))
            before = [tail(alone, 1)]

    def _new(self, batch: Batch, period: int) -> pa.Array:
        """A mask of the values that differ from the one before, or are the first of their period."""
        periods = bucket_starts(batch.ts, period)
        changed = pc.fill_null(pc.not_equal(batch.val[1:], batch.val[:-1]), True)
        return _and_first(batch, pc.or_(changed, pc.not_equal(periods[1:], periods[:-1])))


def _and_first(batch: Batch, others: pa.Array) -> pa.Array:
    """A mask of the first datapoint and of `others` after it."""
    return pa.concat_arrays([pc.is_valid(batch.ts[:1]), others])
