"""The transform `select`."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from esmond_etl import Batch, Series
from esmond_etl_transforms.conditions import Conditions


class Select(Conditions):
    """Keep only the datapoints that meet all given conditions; event types that are not named are left out.

    A condition on values does not apply to values that are not numbers: they are kept if they meet the other conditions. If
    `event_types` names such values, a condition on them is an error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "select"
        event_types = ["throughput", "packet-loss-rate"]
        match = { source = "198.129.*", tool-name = ["pscheduler/iperf3"] }
        from = 2014-01-01
    """

    def concerns(self, series: Series) -> bool:
        """Every series, because series that are not selected are left out."""
        return True

    def becomes(self, series: Series) -> Series | None:
        """None if no datapoint of the series can meet the conditions."""
        return series if self.meets(series) else None

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The datapoints that meet the conditions."""
        for batch in batches:
            if self.meets(batch.series):
                yield batch.filter(self.met(batch, untested=True)) if self.on_points else batch
