"""Rates of change."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from esmond_etl import Batch, Duration, Transform
from esmond_etl_transforms.buckets import bucket_starts, joined, tail
from esmond_etl_transforms.only_numbers import are_numbers


class RateOfChange(Transform):
    """How much a number has changed since the one before it, per second: one value less than there are in each `period`.

    The first value of each period has none before it and is left out. So the outcome does not depend on how much time is read in
    one go: a run that reads one period again delivers for it what a run over years did. Of several values in one second, the first
    tells the change up to it, and the last the change from it. Without `event_types` this applies to all series of numbers; any
    other series passes unchanged. A series that `event_types` names and that does not hold numbers is an error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "rate_of_change"
        event_types = ["ntp-offset"]
        period = "1d"
    """

    divides_window: ClassVar[tuple[str, ...]] = ("period",)

    period: Duration = Field(
        gt=0, description="time at whose multiples (UTC) it starts anew; the pipeline's window must be a multiple of it"
    )

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The changes, each at the moment of the later value."""
        before: list[Batch] = []  # the last value
        for batch in batches:
            if not are_numbers(batch, self) or not len(batch):
                yield batch
            else:
                together = joined([*before, batch])
                yield self._changes(together)
                before = [tail(together, 1)]

    def _changes(self, batch: Batch) -> Batch:
        ts, val = batch.ts.cast(pa.int64()), batch.val.cast(pa.float64())
        seconds = pc.subtract(ts[1:], ts[:-1])
        periods = bucket_starts(batch.ts, self.period)
        changes = pc.divide(pc.subtract(val[1:], val[:-1]), seconds.cast(pa.float64()))
        mask = pc.and_(pc.greater(seconds, 0), pc.equal(periods[1:], periods[:-1]))
        return Batch.of(batch.series, batch.ts[1:], changes).filter(mask)
