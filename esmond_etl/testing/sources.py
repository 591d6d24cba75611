"""The suite that every source must pass."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from esmond_etl.model.batch import DataPoint
from esmond_etl.model.errors import EsmondEtlError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.plugin.source import Source
from esmond_etl.plugin.stage import Context
from esmond_etl.testing.datapoints import DAY, Points, points_of, skip


class SourceSuite:
    """What every source must do: derive a class `Test...` from it, and define `source` and `interval`."""

    interval: ClassVar[Interval]  #: in which the source has datapoints

    def source(self, tmp_path: Path) -> Source:
        """The source under test, not open."""
        raise NotImplementedError("define `source`: it returns the source under test")

    def broken(self, tmp_path: Path) -> Source | None:
        """A source of which some series cannot be read to its end, if there can be such a thing."""
        return None

    def expected(self) -> Mapping[str, Points] | None:
        """The expected datapoints in `interval`: series id, as text -> datapoints; None to skip this test."""
        return None

    @contextmanager
    def opened(self, tmp_path: Path) -> Iterator[tuple[Source, list[Series]]]:
        """The source, open, and the series that it lists."""
        source = self.source(tmp_path)
        source.open(Context("suite", 4))
        try:
            yield source, list(source.series(self.interval))
        finally:
            source.close()

    def test_every_series_is_listed_once_and_those_of_one_metadata_together(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as (_, found):
            keys = [each.metadata.key for each in found]
            assert found, "it lists no series in `interval`"
            assert len(found) == len(set(found))
            assert [key for index, key in enumerate(keys) if keys[:index][-1:] != [key]] == list(dict.fromkeys(keys))

    def test_datapoints_come_oldest_first_inside_the_interval_and_typed(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as (source, found):
            some = 0
            for each in found:
                batches = list(source.read(each, self.interval))
                ts = [second for batch in batches for second in batch.seconds]
                some += len(ts)
                assert ts == sorted(ts)
                assert all(self.interval.start <= second < self.interval.end for second in ts)
                assert {batch.series for batch in batches} <= {each}
                assert all(str(batch.val.type) == ("double" if each.holds_numbers else "string") for batch in batches)
            assert some, "it has no datapoints in `interval`"

    def test_it_has_what_it_should_have(self, tmp_path: Path) -> None:
        expected = self.expected()
        if expected is None:
            skip("`expected` is not defined")
        with self.opened(tmp_path) as (source, found):
            assert {str(each): points_of(source.read(each, self.interval)) for each in found} == {
                name: [DataPoint(*point) for point in points] for name, points in expected.items()
            }

    def test_an_interval_in_pieces_is_the_whole(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as (source, found):
            for each in found:
                whole = points_of(source.read(each, self.interval))
                start, end = self.interval
                cuts = sorted({start, end, *(point.ts for point in whole[:: max(1, len(whole) // 4)])})
                pieces = [Interval(*pair) for pair in pairwise(cuts)]
                assert [point for piece in pieces for point in points_of(source.read(each, piece))] == whole

    def test_an_interval_without_datapoints_is_empty(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as (source, found):
            for each in found:
                assert points_of(source.read(each, Interval(DAY, 2 * DAY))) == []
                assert points_of(source.read(each, Interval(self.interval.start, self.interval.start))) == []

    def test_it_reads_the_same_from_several_threads(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as (source, found), ThreadPoolExecutor(4) as pool:
            alone = [points_of(source.read(each, self.interval)) for each in found]
            together = pool.map(lambda each: points_of(source.read(each, self.interval)), found * 2)
            assert list(together) == alone * 2

    def test_a_series_that_cannot_be_read_is_an_error_not_an_end(self, tmp_path: Path) -> None:
        source = self.broken(tmp_path)
        if source is None:
            skip("`broken` is not defined")
        source.open(Context("suite", 4))
        try:
            failed = [each for each in source.series(self.interval) if _fails(source, each, self.interval)]
        finally:
            source.close()
        assert failed, "every series could be read"

    def test_it_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        source = self.source(tmp_path)
        assert pickle.loads(pickle.dumps(source)) == source


def _fails(source: Source, given: Series, interval: Interval) -> bool:
    try:
        list(source.read(given, interval))
    except EsmondEtlError:
        return True
    return False
