"""The chain of transforms: it maps a series, and its datapoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from esmond_etl.model import profile
from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import SourceError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.plugin.transform import Transform


@dataclass(frozen=True)
class Chain:
    """The transforms of a pipeline, in their order; every command sends its series through this."""

    transforms: tuple[Transform, ...] = ()

    def becomes(self, series: Series) -> Series | None:
        """The series that sinks receive the datapoints of `series` as; None if the transforms leave it out."""
        steps = list(self._steps(series))
        return steps[-1][2] if steps else series

    def apply(self, series: Series, batches: Iterable[Batch], interval: Interval | None = None) -> Iterator[Batch]:
        """The datapoints of `series` as sinks receive them, oldest first.

        Raises what the source and the transforms raise, and SourceError, naming the stage, if one of them returns datapoints out of
        order or outside `interval`.
        """
        batches = checked(profile.through("source", batches), interval, "the source")
        for index, transform, _ in self._steps(series):
            stage = f"transform[{index}] ({type(transform).__name__})"
            batches = checked(profile.through(stage, transform.apply(batches)), interval, stage)
        return iter(batches)

    def _steps(self, series: Series) -> Iterator[tuple[int, Transform, Series | None]]:
        """The transforms that `series` goes through, each with its number and with the series that comes out of it."""
        target: Series | None = series
        for index, transform in enumerate(self.transforms):
            if target is None:
                return
            if transform.concerns(target):
                target = transform.becomes(target)
                yield index, transform, target


def checked(batches: Iterable[Batch], interval: Interval | None, stage: str) -> Iterator[Batch]:
    """The batches that hold datapoints; raises SourceError if `stage` returns some out of order or outside `interval`."""
    last = None
    for batch in batches:
        if not len(batch):
            continue
        moments = batch.moments
        first = moments[0]
        if not batch.ascends() or (last is not None and first < last):
            raise SourceError(f"{batch.series}: {stage} returned datapoints out of order: they must be oldest first")
        last = moments[-1]
        outside = next((ts for ts in (first, last) if interval and not interval.start <= ts < interval.end), None)
        if outside is not None:
            raise SourceError(f"{batch.series} at {outside}: {stage} returned a datapoint outside the task's interval {interval}")
        yield batch
