"""Numbers times a factor."""

from typing import ClassVar

import pyarrow.compute as pc
from pydantic import Field

from esmond_etl import Batch, BatchTransform
from esmond_etl_transforms.only_numbers import are_numbers


class Scale(BatchTransform):
    """Multiply every number by `factor`, e.g. 1e-9 to turn bit/s into Gbit/s.

    Without `event_types` these are all series of numbers, and any other series passes as it is; one that is no series of numbers
    although `event_types` names it is an error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "scale"
        event_types = ["throughput"]
        factor = 1e-9
    """

    factor: float = Field(description="what every number is multiplied by", allow_inf_nan=False)

    def apply_batch(self, batch: Batch) -> Batch:
        """The same moments, the numbers scaled."""
        if not are_numbers(batch, self):
            return batch
        return batch.with_val(pc.multiply(batch.val, self.factor))
