"""The transform `tag`."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

from pydantic import Field, model_validator

from esmond_etl import Batch, Series
from esmond_etl_transforms.fields import ATTRIBUTES, field_of, with_field
from esmond_etl_transforms.names import Names


class Tag(Names):
    """Add a parameter to the metadata: a fixed `value`, or the name of the value in a `field`.

    The metadata key does not change, so a series is still the same series.
    """

    tried_offline: ClassVar[bool] = True

    example: ClassVar[str] = """
        [[transform]]
        type = "tag"
        tag = "source-site"
        field = "source"
        names = { "198.129.254.30" = "Berkeley" }
        default = "elsewhere"
    """

    tag: str = Field(description="name of the parameter", min_length=1)
    value: str | None = Field(None, description="its value, the same for all series")
    field: str | None = Field(None, description="field of the metadata; the name of its value becomes the parameter's value")
    default: str | None = Field(None, description="its value if the field's value has no name; default: the parameter is left out")

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.tag in ATTRIBUTES:
            raise ValueError(f"{self.tag} is not a parameter but a fixed field: use `rename`")
        if (self.value is None) == (self.field is None):
            raise ValueError("give either `value`, or `field` with `names` or `csv`")
        if self.field is not None and not (self.names or self.csv):
            raise ValueError("no names: give `names`, `csv`, or both")
        return self

    def becomes(self, series: Series) -> Series:
        """The series with the parameter in its metadata."""
        value = self.value
        if self.field is not None:
            name = self.name_of(field_of(series.metadata, self.field))
            value = self.default if name is None else name
        return series if value is None else series.replace(metadata=with_field(series.metadata, self.tag, value))

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same datapoints, unchanged."""
        for batch in batches:
            yield batch.with_series(self.becomes(batch.series))
