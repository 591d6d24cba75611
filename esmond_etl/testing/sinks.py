"""The suite that every sink must pass."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from esmond_etl.model.batch import DataPoint
from esmond_etl.model.errors import SinkError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.plugin.sink import Load, Sink, Task
from esmond_etl.plugin.stage import Context
from esmond_etl.testing.crash import in_child, kill, watched
from esmond_etl.testing.datapoints import DAY, START, Points, deliver, points_of, series, skip, write
from esmond_etl.testing.recorded import RecordedSource

#: Which datapoint of a series -> its value: values that every target can hold exactly.
_VALUES: Final[dict[str, Callable[[int], Any]]] = {
    "throughput": lambda index: 1e9 + index * 1000,
    "time-error-estimates": lambda index: index + 0.5,
    "histogram-owdelay": lambda index: {"10": 5, "11": index + 1},
    "failures": lambda index: {"error": f"no route to host {index}, “really”\n"},
}


class SinkSuite:
    """What every sink must do: derive a class `Test...` from it, and define `sink`."""

    event_types: ClassVar[tuple[str, ...]] = tuple(_VALUES)  #: of these four, those that it is tested with
    kills: ClassVar[int] = 8  #: number of moments of a commit at which the process is killed
    forks: ClassVar[bool] = True  #: False for a sink whose library refuses to work in a forked process: then test kills yourself

    def sink(self, tmp_path: Path) -> Sink:
        """The sink under test, not open; called again in a test it must lead to the same target."""
        raise NotImplementedError("define `sink`: it returns the sink under test")

    def delivered(self, sink: Sink, series: Series) -> list[DataPoint]:
        """What the target holds of `series`, oldest first; by default what the sink, which is open, reads back."""
        return points_of(sink.read(series, Interval(0, 2**33)))

    def context(self) -> Context:
        """What the sink is opened with."""
        source = RecordedSource(recorded={})
        return Context("suite", 4, source=source)

    @contextmanager
    def opened(self, tmp_path: Path) -> Iterator[Sink]:
        """The sink, open."""
        sink = self.sink(tmp_path)
        sink.open(self.context())
        try:
            yield sink
        finally:
            sink.close()

    def given(self, key: str = "a1", days: int = 3, first: int = 0) -> dict[Series, list[DataPoint]]:
        """A series of each event type, and four datapoints a day of each."""
        spots = [(day * DAY + quarter * DAY // 4, 4 * day + quarter) for day in range(days) for quarter in range(4)]
        return {
            series(name, key=key): [DataPoint(START + ts, _VALUES[name](first + index)) for ts, index in spots]
            for name in self.event_types
        }

    def held(self, sink: Sink, all_series: Iterable[Series]) -> dict[Series, list[DataPoint]]:
        """The target's datapoints of some series."""
        return {each: self.delivered(sink, each) for each in all_series}

    def test_what_is_committed_is_what_was_given(self, tmp_path: Path) -> None:
        given = self.given()
        with self.opened(tmp_path) as sink:
            receipt = deliver(sink, given, Interval(START, START + 3 * DAY))
            assert self.held(sink, given) == given
            assert (receipt.written + receipt.unchanged, list(receipt.rejected)) == (sum(map(len, given.values())), [])
        with self.opened(tmp_path) as sink:
            if self.sink(tmp_path).features.repeats:
                assert self.held(sink, given) == given, "it is gone when the sink is opened again"

    def test_delivering_twice_is_delivering_once(self, tmp_path: Path) -> None:
        self._needs(tmp_path, "repeats")
        given = self.given()
        for _ in range(2):
            with self.opened(tmp_path) as sink:
                for _ in range(2):
                    receipt = deliver(sink, given, Interval(START, START + 3 * DAY))
                    assert self.held(sink, given) == given
                    assert (receipt.written + receipt.unchanged, list(receipt.rejected)) == (sum(map(len, given.values())), [])

    def test_what_was_rolled_back_is_whole_after_the_next_delivery(self, tmp_path: Path) -> None:
        given, interval = self.given(), Interval(START, START + 3 * DAY)
        with self.opened(tmp_path) as sink:
            load = sink.begin(Task(tuple(given), interval, DAY))
            for each, points in given.items():
                write(load, each, points)
            load.rollback()
            if self.sink(tmp_path).features.undoes:
                assert self.held(sink, given) == {each: [] for each in given}
            deliver(sink, given, interval)
            assert self.held(sink, given) == given

    def test_a_series_that_did_not_end_stays_as_it_was(self, tmp_path: Path) -> None:
        whole, untouched, interval = self.given("whole"), self.given("untouched"), Interval(START, START + 3 * DAY)
        with self.opened(tmp_path) as sink:
            deliver(sink, untouched, interval)
            load = sink.begin(Task((*whole, *untouched), interval, DAY))
            _write_and_end(load, whole)
            load.commit()
            assert self.held(sink, whole) == whole
            assert self.held(sink, untouched) == untouched

    def test_a_series_that_broke_off_stays_as_it_was(self, tmp_path: Path) -> None:
        whole, broken, interval = self.given("whole"), self.given("broken"), Interval(START, START + 3 * DAY)
        with self.opened(tmp_path) as sink:
            deliver(sink, broken, interval)
            load = sink.begin(Task((*whole, *broken), interval, DAY))
            for each, points in self.given("broken", first=100).items():
                write(load, each, points[:6])
            _write_and_end(load, whole)
            try:
                load.commit()
                assert self.held(sink, whole) == whole
            except SinkError:  # after a failed task it may have none
                load.rollback()
            assert self.held(sink, broken) == broken

    def test_a_part_of_the_time_is_replaced_alone(self, tmp_path: Path) -> None:
        self._needs(tmp_path, "repeats", "replaces")
        given, other = self.given(), self.given(first=100)
        middle = Interval(START + DAY, START + 2 * DAY)
        with self.opened(tmp_path) as sink:
            deliver(sink, given, Interval(START, START + 3 * DAY))
            deliver(sink, {each: points[4:7] for each, points in other.items()}, middle)
            assert self.held(sink, given) == {each: [*given[each][:4], *other[each][4:7], *given[each][8:]] for each in given}

    def test_days_that_are_added_leave_the_others_as_they_are(self, tmp_path: Path) -> None:
        given = self.given()
        with self.opened(tmp_path) as sink:
            for day in (1, 0, 2):
                part = {each: points[4 * day : 4 * day + 4] for each, points in given.items()}
                deliver(sink, part, Interval(START + day * DAY, START + (day + 1) * DAY))
            assert {each: sorted(points) for each, points in self.held(sink, given).items()} == given

    def test_a_series_without_datapoints_leaves_none(self, tmp_path: Path) -> None:
        given, interval = self.given(), Interval(START, START + 3 * DAY)
        empty: dict[Series, list[DataPoint]] = {each: [] for each in given}
        with self.opened(tmp_path) as sink:
            assert deliver(sink, empty, interval).written == 0
            assert self.held(sink, given) == empty
            if self.sink(tmp_path).features.repeats and self.sink(tmp_path).features.replaces:
                deliver(sink, given, interval)
                deliver(sink, empty, interval)
                assert self.held(sink, given) == empty

    def test_series_come_from_several_threads(self, tmp_path: Path) -> None:
        given = {each: points for key in "abcdefgh" for each, points in self.given(key).items()}
        with self.opened(tmp_path) as sink, ThreadPoolExecutor(8) as pool:
            load = sink.begin(Task(tuple(given), Interval(START, START + 3 * DAY), DAY))

            def send(each: Series) -> None:
                write(load, each, given[each])
                load.end(each)

            list(pool.map(send, given))
            load.commit()
            assert self.held(sink, given) == given

    def test_several_tasks_may_be_under_way_at_once(self, tmp_path: Path) -> None:
        parts = [self.given(key) for key in "abcd"]
        with self.opened(tmp_path) as sink, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda part: deliver(sink, part, Interval(START, START + 3 * DAY)), parts))
            assert [self.held(sink, part) for part in parts] == parts

    def test_what_is_read_back_lies_in_the_interval(self, tmp_path: Path) -> None:
        if type(self.sink(tmp_path)).read is Sink.read:
            skip("the sink cannot be read back")
        given = self.given()
        with self.opened(tmp_path) as sink:
            deliver(sink, given, Interval(START, START + 3 * DAY))
            part = Interval(START + DAY // 4, START + DAY)
            assert {each: points_of(sink.read(each, part)) for each in given} == {each: given[each][1:4] for each in given}

    def test_a_kill_between_write_and_commit_harms_nothing(self, tmp_path: Path) -> None:
        self._needs(tmp_path, "repeats")
        self._needs_forks()
        given = self.given()
        assert self._killed(tmp_path, given, 0) == -signal.SIGKILL
        with self.opened(tmp_path) as sink:
            if self.sink(tmp_path).features.undoes:
                assert self.held(sink, given) == {each: [] for each in given}
            deliver(sink, given, Interval(START, START + 3 * DAY))
            assert self.held(sink, given) == given

    def test_a_kill_at_any_moment_of_a_commit_harms_nothing(self, tmp_path: Path) -> None:
        self._needs(tmp_path, "repeats")
        self._needs_forks()
        calls = self._calls(tmp_path, self.given("counted"))
        moments = sorted({1 + round(index * (calls - 1) / (self.kills - 1)) for index in range(self.kills)})
        for moment in moments:
            given = self.given(f"killed-{moment}")
            code = self._killed(tmp_path, given, moment)
            assert code in (-signal.SIGKILL, 0), f"the delivery failed by itself: {code}"
            with self.opened(tmp_path) as sink:
                deliver(sink, given, Interval(START, START + 3 * DAY))
                assert self.held(sink, given) == given, f"after a kill at call {moment} of {calls}"

    def test_it_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        sink = self.sink(tmp_path)
        assert pickle.loads(pickle.dumps(sink)) == sink

    def _needs(self, tmp_path: Path, *promises: str) -> None:
        features = self.sink(tmp_path).features
        for name in promises:
            if not getattr(features, name):
                skip(f"it is not a sink that {name}")

    def _needs_forks(self) -> None:
        if not self.forks or not hasattr(os, "fork"):
            skip("processes cannot be forked here")

    def _killed(self, tmp_path: Path, given: Mapping[Series, Points], moment: int) -> int:
        """The exit code of a process that is killed at the `moment`-th call of a commit; 0 is before the commit."""
        return in_child(lambda: self._deliver(tmp_path, given, lambda count: kill() if count == moment else None))

    def _calls(self, tmp_path: Path, given: Mapping[Series, Points]) -> int:
        """How many calls a commit makes, in another process."""
        reader, writer = os.pipe()

        def count() -> None:
            seen = [0]
            self._deliver(tmp_path, given, seen.append)
            os.write(writer, str(max(seen)).encode())

        code = in_child(count)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        assert code == 0, "the delivery failed in a process of its own"
        return int(text)

    def _deliver(self, tmp_path: Path, given: Mapping[Series, Points], at: Callable[[int], object]) -> None:
        """Deliver, and call `at` with 0 before the commit, and with its number at each call inside it."""
        with self.opened(tmp_path) as sink:
            load = sink.begin(Task(tuple(given), Interval(START, START + 3 * DAY), DAY))
            _write_and_end(load, given)
            at(0)
            with watched(at):
                load.commit()


def _write_and_end(load: Load, given: Mapping[Series, Points]) -> None:
    for each, points in given.items():
        write(load, each, points)
        load.end(each)
