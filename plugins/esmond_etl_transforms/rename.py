"""The transform `rename`."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

from pydantic import Field, model_validator

from esmond_etl import Batch, Series
from esmond_etl_transforms.fields import field_of, with_field
from esmond_etl_transforms.names import Names


class Rename(Names):
    """Replace values in fields of the metadata by names, e.g. addresses by the names of sites; a value without a name stays.

    The metadata key does not change, so a series is still the same series.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "rename"
        fields = ["source", "destination"]
        names = { "198.129.254.30" = "Berkeley", "198.124.252.141" = "Chicago" }
    """

    fields: list[str] = Field(description="fields of the metadata: source, destination, input-source, ...", min_length=1)

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if not (self.names or self.csv):
            raise ValueError("no names: give `names`, `csv`, or both")
        if "metadata-key" in self.fields:
            raise ValueError("the metadata-key identifies a series: it cannot be renamed")
        return self

    def becomes(self, series: Series) -> Series:
        """The series with the names in its metadata."""
        metadata = series.metadata
        for field in self.fields:
            name = self.name_of(field_of(metadata, field))
            if name is not None:
                metadata = with_field(metadata, field, name)
        return series if metadata is series.metadata else series.replace(metadata=metadata)

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same datapoints, unchanged."""
        for batch in batches:
            yield batch.with_series(self.becomes(batch.series))
