"""The transform `drop`."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import pyarrow.compute as pc

from esmond_etl import Batch, Series
from esmond_etl_transforms.conditions import Conditions


class Drop(Conditions):
    """Leave out the datapoints that meet all given conditions, for example impossible values.

    A value that is not a number never meets a condition on values: it is kept. If `event_types` names such values, a condition on
    them is an error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "drop"
        event_types = ["throughput"]
        above = 1e12
    """

    def becomes(self, series: Series) -> Series | None:
        """None if the whole series meets the conditions."""
        return None if self.meets(series) and not self.on_points else series

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The datapoints that do not meet the conditions."""
        for batch in batches:
            if not self.meets(batch.series):
                yield batch
            elif self.on_points:
                yield batch.filter(pc.invert(self.met(batch, untested=False)))
