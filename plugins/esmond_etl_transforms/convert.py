"""Numbers in another unit."""

from math import gcd
from typing import ClassVar, Self

import pyarrow.compute as pc
from pydantic import Field, model_validator

from esmond_etl import EVENT_TYPES, Batch, BatchTransform, ConfigError, event_type
from esmond_etl_transforms.only_numbers import are_numbers
from esmond_etl_transforms.units import Unit, factor


class Convert(BatchTransform):
    """Convert numbers to another unit, such as bit/s to Gbit/s; an impossible conversion is an error.

    The present unit is the one in which archives store the event type; give `from` after a transform that has changed it, and for
    statistics of histograms. A series that does not hold numbers passes unchanged, unless `event_types` names it: then it is an
    error.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "convert"
        event_types = ["throughput"]
        to = "Gbit/s"
    """

    to: Unit = Field(description="unit to convert to")
    unit: Unit | None = Field(None, alias="from", description="present unit; default: that of the event type")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in self.event_types or ():
            if name in EVENT_TYPES or self.unit:
                self._factor(name)
        return self

    def _factor(self, name: str) -> tuple[int, int]:
        """The factor and the divisor for values of the event type `name`; raises ValueError if there are none."""
        known = event_type(name)
        unit = self.unit or (known.unit if known.is_number else "")
        if not unit:
            raise ValueError(f"the unit of {name} is not known: give it with `from`")
        found = factor(unit, self.to)
        if found is None:
            raise ValueError(f"{name} is in {unit}, which cannot be converted to {self.to}")
        return found

    def apply_batch(self, batch: Batch) -> Batch:
        """The same moments, the numbers in the other unit."""
        if not are_numbers(batch, self):
            return batch
        try:
            times, by = self._factor(batch.series.event_type)
        except ValueError as error:
            raise ConfigError(f"{batch.series}: {error}; name the event_types that this transform is for") from None
        common = gcd(times, by)
        return batch.with_val(pc.divide(pc.multiply(batch.val.cast("double"), float(times // common)), float(by // common)))
