"""Conditions on series and on datapoints, for `select` and `drop`."""

from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from esmond_etl import TS, Batch, Series, Transform, parse_moment
from esmond_etl_transforms.fields import field_of
from esmond_etl_transforms.only_numbers import are_numbers

_END: Final = 253402300800  # the year 10000


def _moment(value: object) -> object:
    if isinstance(value, int | float | list | dict):
        return value
    ts = parse_moment(value, now=0) if isinstance(value, str | date) else 0
    if not 0 < ts < _END:  # not "now" or "30d": the result must not depend on when the pipeline runs
        written = f"{value!r:.40}" if isinstance(value, str) else str(value)
        raise ValueError(f"{written} is not a time: write a date or time such as 2014-03-01 or 2014-03-01T12:00:00Z")
    return ts


#: An option that is a moment: a date or a time in the TOML, Unix seconds in Python.
Moment = Annotated[
    int,
    BeforeValidator(_moment),
    Field(strict=True),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["2014-03-01", "2014-03-01T12:00:00Z"]}),
]


class Conditions(Transform):
    """Conditions; a datapoint meets them if it meets all that are given."""

    event_types: list[str] | None = Field(None, description="these event types; default: all")
    match: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description='metadata fields and their values: a text, a pattern such as "198.129.*", or a list of these, one of which must match',
    )
    above: float | None = Field(None, description="values greater than this")
    below: float | None = Field(None, description="values less than this")
    equals: float | None = Field(None, description="values equal to this")
    since: Moment | None = Field(None, alias="from", description="datapoints at or after this time")
    until: Moment | None = Field(None, alias="to", description="datapoints before this time")

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("no condition: give one or more of event_types, match, above, below, equals, from, to")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"no value is above {self.above:g} and below {self.below:g}")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("`from` is not before `to`")
        return self

    def meets(self, series: Series) -> bool:
        """Whether `series` meets the conditions on event type and metadata."""
        if self.event_types is not None and series.event_type not in self.event_types:
            return False
        return all(_like(field_of(series.metadata, name), patterns) for name, patterns in self.match.items())

    @property
    def on_values(self) -> bool:
        """Whether there is a condition on values."""
        return any(each is not None for each in (self.above, self.below, self.equals))

    @property
    def on_points(self) -> bool:
        """Whether there is a condition on values or on time."""
        return self.on_values or self.since is not None or self.until is not None

    def met(self, batch: Batch, untested: bool) -> pa.Array:
        """A mask of the datapoints that meet the conditions on value and time.

        For a value that is not a number, a condition on values counts as `untested`.
        """
        bounds: list[tuple[Any, pa.Array, float | None, Any]] = [
            (pc.greater_equal, batch.ts, self.since, TS),
            (pc.less, batch.ts, self.until, TS),
        ]
        result = pc.is_valid(batch.ts)
        if self.on_values and are_numbers(batch, self):
            bounds += [(pc.greater, batch.val, self.above, None), (pc.less, batch.val, self.below, None)]
            bounds += [(pc.equal, batch.val, self.equals, None)]
        elif self.on_values:
            result = pc.and_(result, pa.scalar(untested))
        for compare, column, bound, kind in bounds:
            if bound is not None:
                result = pc.and_(result, pc.fill_null(compare(column, pa.scalar(bound, kind)), False))
        return result


def _like(value: str | None, patterns: str | list[str]) -> bool:
    wanted = [patterns] if isinstance(patterns, str) else patterns
    return value is not None and any(fnmatchcase(value, pattern) for pattern in wanted)
