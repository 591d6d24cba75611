"""Transforms: they change datapoints between the source and the sinks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import Field

from esmond_etl.model.batch import Batch, DataPoint
from esmond_etl.model.series import Series
from esmond_etl.plugin.stage import Stage


class Transform(Stage):
    """Base class of transforms; `event_types` limits any transform to some event types."""

    #: The options of type Duration that must divide the pipeline's window; `check` sees to it.
    divides_window: ClassVar[tuple[str, ...]] = ()

    #: Whether `apply` has no effect of its own and needs nothing that `open` gets ready: then `check` sends it an empty batch of each
    #: series that the file names, and reports the ConfigError that it raises.
    tried_offline: ClassVar[bool] = False

    event_types: list[str] | None = Field(None, description="only these event types; default: all")

    def concerns(self, series: Series) -> bool:
        """Whether `series` passes through this transform at all."""
        return self.event_types is None or series.event_type in self.event_types

    def fingerprint(self) -> str:
        """Whatever decides on the result besides the options, such as a digest of a file: if it changes, the transform has changed."""
        return ""

    def becomes(self, series: Series) -> Series | None:
        """The series that the datapoints of `series` belong to after the transform; None to leave the series out."""
        return series

    @abstractmethod
    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The transformed batches of one series over one interval of whole windows.

        The batches come complete and oldest first, so state may live in local variables.
        """


class BatchTransform(Transform):
    """A transform that looks at one batch at a time, in columns."""

    @abstractmethod
    def apply_batch(self, batch: Batch) -> Batch:
        """The transformed batch; it may be shorter."""

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Every batch through `apply_batch`."""
        return map(self.apply_batch, batches)


class PointTransform(BatchTransform):
    """A transform that looks at one datapoint at a time: the easiest to write, and the slowest."""

    @abstractmethod
    def apply_point(self, point: DataPoint) -> DataPoint | None:
        """The transformed datapoint; None leaves it out."""

    def apply_batch(self, batch: Batch) -> Batch:
        """Every datapoint through `apply_point`."""
        points = (self.apply_point(point) for point in batch.to_points())
        return Batch.from_points(batch.series, (point for point in points if point is not None))
