"""Numbers multiplied by a factor."""

from typing import ClassVar

import pyarrow.compute as pc
from pydantic import Field

from esmond_etl import Batch, BatchTransform
from esmond_etl_transforms.only_numbers import are_numbers


class Scale(BatchTransform):
    """Multiply every number by `factor`, e.g. 1e-9 to turn bit/s into Gbit/s.

    Without `event_types` this applies to all series of numbers; any other series passes unchanged. A series that `event_types`
    names and that does not hold numbers is an error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "scale"
        event_types = ["throughput"]
        factor = 1e-9
    """

    factor: float = Field(description="factor for every number", allow_inf_nan=False)

    def apply_batch(self, batch: Batch) -> Batch:
        """The same moments, the numbers scaled."""
        if not are_numbers(batch, self):
            return batch
        return batch.with_val(pc.multiply(batch.val, self.factor))
