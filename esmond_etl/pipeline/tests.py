"""`[[test]]`: datapoints that go through the transforms of a pipeline file, and the expected result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from esmond_etl.model.batch import Batch, DataPoint
from esmond_etl.model.interval import moment, parse_moment
from esmond_etl.model.series import SUBJECT_FIELDS, Metadata, Series, Served, Summary
from esmond_etl.pipeline.settings import Moment
from esmond_etl.plugin.chain import Chain
from esmond_etl.plugin.stage import Context
from esmond_etl.plugin.transform import Transform

_POINT = {"type": "array", "prefixItems": [{"type": ["string", "integer"]}, {}], "minItems": 2, "maxItems": 2}

#: Datapoints as a pipeline file has them: [[moment, value], ...], oldest first.
Points = Annotated[list[tuple[Moment, Any]], WithJsonSchema({"type": "array", "items": _POINT})]


class Case(BaseModel):
    """Datapoints of one series, and the expected result of the transforms."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str | None = Field(None, description="what it shows; default: its number")
    event_type: str = Field(description="event type of the datapoints that go in")
    summary: str = Field("base", description='"base", or a type and a window in seconds such as "average/86400"')
    metadata: dict[str, Any] = Field(
        default_factory=dict, description='metadata of the datapoints that go in, by the names that archives give: "source", ...'
    )
    points: Points = Field(description="datapoints that go in, oldest first: [[moment, value], ...]")
    expected: Points = Field(description="datapoints that must come out; [] for none")
    expected_event_type: str | None = Field(None, description="event type that must come out; default: not looked at")
    expected_metadata: dict[str, Any] = Field(
        default_factory=dict, description="metadata fields that must come out; those not named are not looked at"
    )

    @field_validator("summary")
    @classmethod
    def _a_summary(cls, value: str) -> str:
        Summary.parse(value)
        return value

    @field_validator("points", "expected")
    @classmethod
    def _oldest_first(cls, value: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        times = [parse_moment(ts, 0) for ts, _ in value]
        if times != sorted(set(times)):
            raise ValueError("the datapoints are not in order: write them oldest first, each time once")
        return value

    def series(self) -> Series:
        """The series of the datapoints that go in."""
        made = {
            "metadata-key": "0" * 32,
            **self.metadata,
            "event-types": [{"event-type": self.event_type, "base-uri": "", "summaries": []}],
        }
        metadata = Metadata.from_json(made)
        series = Series(metadata, self.event_type, Summary.parse(self.summary))
        offered = {self.event_type: {series.summary: Served("")}}
        return series.replace(metadata=Metadata(**{**_fields(metadata), "event_types": offered}))


def _fields(metadata: Metadata) -> dict[str, Any]:
    return {name: getattr(metadata, name) for name in Metadata.__dataclass_fields__}


@dataclass(frozen=True)
class Verdict:
    """The result of a test."""

    name: str
    diff: str = ""  #: difference between the expected and the actual result; "" if they are equal
    error: str = ""  #: the error of a transform

    @property
    def passed(self) -> bool:
        """Whether the test has passed."""
        return not (self.diff or self.error)


def run(cases: Iterable[Case], transforms: Iterable[Transform], pipeline: str = "") -> Iterator[Verdict]:
    """The result of each of `cases` with `transforms`, which are opened for it; raises what their `open` raises."""
    stages = list(transforms)
    opened: list[Transform] = []
    try:
        for stage in stages:
            stage.open(Context(pipeline))
            opened.append(stage)
        for index, case in enumerate(cases):
            yield _verdict(case.name or f"test[{index}]", case, Chain(tuple(stages)))
    finally:
        for stage in opened:
            stage.close()


def _verdict(name: str, case: Case, chain: Chain) -> Verdict:
    try:
        series, points = _transformed(case, chain)
    except Exception as error:  # a transform may raise anything
        return Verdict(name, error=f"{type(error).__name__}: {error}")
    expected = [DataPoint(parse_moment(ts, 0), val) for ts, val in case.expected]
    actual = [_as_expected(point, {each.ts: each for each in expected}) for point in points]
    before = [*_about(case.expected_event_type, case.expected_metadata), *map(_line, expected)]
    after = [*_about(*_named(case, series)), *map(_line, actual)]
    return Verdict(name, "\n".join(unified_diff(before, after, "expected", "what came out", lineterm="")))


def _transformed(case: Case, chain: Chain) -> tuple[Series | None, list[DataPoint]]:
    series = case.series()
    target = chain.becomes(series)
    if target is None:
        return None, []
    batch = Batch.from_points(series, [(parse_moment(ts, 0), val) for ts, val in case.points])
    return target, [point for each in chain.apply(series, [batch]) for point in each.to_points()]


def _as_expected(point: DataPoint, expected: dict[int, DataPoint]) -> DataPoint:
    """The expected point, if `point` differs from it only by rounding."""
    wanted = expected.get(point.ts)
    return wanted if wanted is not None and alike(wanted.val, point.val) else point


def alike(one: Any, other: Any) -> bool:
    """Whether two values are equal, except for rounding of their numbers."""
    if isinstance(other, list) and other and isinstance(one, dict) and all(isinstance(each, tuple) for each in other):
        other = dict(other)  # an opened histogram
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-300)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def _named(case: Case, series: Series | None) -> tuple[str | None, dict[str, Any]]:
    """The fields of the result that the test compares."""
    if series is None:
        return None, {}
    fields = {name: getattr(series.metadata, name.replace("-", "_")) for name in SUBJECT_FIELDS} | dict(series.metadata.parameters)
    about = {name: fields[name] for name in case.expected_metadata if fields.get(name) is not None}
    return series.event_type if case.expected_event_type else None, about


def _about(name: str | None, metadata: dict[str, Any]) -> Iterator[str]:
    if name:
        yield f"event_type = {_text(name)}"
    yield from (f"metadata.{key} = {_text(value)}" for key, value in sorted(metadata.items()))


def _line(point: DataPoint) -> str:
    return f"{moment(point.ts)}  {_text(point.val)}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
