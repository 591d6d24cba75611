"""Sinks: targets that datapoints are delivered to, one task at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Protocol, Self

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import SinkError
from esmond_etl.model.interval import Interval, IntervalSet
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.plugin.stage import Context, Stage


@dataclass(frozen=True, slots=True)
class Task:
    """Some series over one interval of whole windows: what is committed as one."""

    series: tuple[Series, ...]
    interval: Interval
    window: int  #: s; the interval is made of whole windows
    sinks: tuple[str, ...] = ()  #: the labels of the sinks that still need it; empty: all sinks of the pipeline

    @property
    def id(self) -> str:
        """A name that is the same exactly for the same series and the same interval."""
        digest = sha256("\n".join(sorted(str(series) for series in self.series)).encode())
        return f"{self.interval.start}-{self.interval.end}-{digest.hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Reject:
    """A datapoint that a target does not accept."""

    series: Series
    ts: int
    val: str  #: JSON text
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a task in one sink."""

    written: int = 0
    unchanged: int = 0  #: the target already had them
    rejected: Sequence[Reject] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)  #: a message for the user -> the number of datapoints that it is about
    versions: Mapping[str, int] = field(default_factory=dict)  #: table -> its version with the task, if the target keeps versions


#: A remark for the receipts of sinks that keep one datapoint per series and second.
EQUAL_IN_A_SECOND: Final = "datapoints that equal another one of their series in the same second: the target keeps one of them"


class Load(ABC):
    """The delivery of one task to one target."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Add `batch`; called from several threads, for one series from one thread at a time, oldest first."""

    def end(self, series: Series) -> None:  # noqa: B027
        """Note that `series` is complete; called once for each series of the task that was read to its end.

        `commit` delivers only these: the target keeps its datapoints of all other series.
        """

    @abstractmethod
    def commit(self) -> Receipt:
        """Make the datapoints durable in the target, and return the result."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo as much as possible: the task will be delivered again."""


@dataclass(frozen=True, slots=True)
class Features:
    """The abilities of a sink, declared so that callers need not try."""

    repeats: bool = True  #: delivering a task again does not change the target; false for a stream such as standard output
    replaces: bool = True  #: a later delivery of the same time replaces the earlier one completely
    undoes: bool = True  #: a rollback removes the whole task from the target; otherwise only the next delivery completes it
    reads_back: bool = True  #: `read` returns what the target holds
    merges: bool = False  #: the target may hold datapoints of the same series from elsewhere: they are compared, and kept
    several_hosts: bool = False  #: tasks may be delivered from several hosts at the same time
    one_a_second: bool = False  #: the target keeps one of several equal datapoints of a series in one second
    summarizes: bool = False  #: the target makes summaries of the datapoints, and `read` returns them, too
    together: int = 0  #: s; reading many series over this much time is as fast as reading one of them; 0: it is slower
    overwrites: bool = False  #: another pipeline can overwrite the same series there, and the target keeps no note of its owner
    compacts: bool = False  #: it keeps files, and `compact` merges those that are small
    remembers: bool = False  #: the target knows what was delivered: a lost ledger can be rebuilt from it
    prints: bool = False  #: datapoints go to standard output, so nothing else may be printed there


class View(Protocol):
    """A way to read what a sink stored."""

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first; raises EsmondEtlError if they cannot be read."""


class Sink(Stage):
    """A target that datapoints are delivered to.

    Delivery is idempotent: what the target already has of the same series and interval is replaced or found unchanged. That makes a
    crash at any moment harmless.
    """

    @property
    def features(self) -> Features:
        """The abilities of this sink with its present options."""
        return Features()

    def reach(self, context: Context) -> str | None:
        """Find out whether a run could deliver, and write nothing; raises EsmondEtlError with a sentence that says what to do.

        Returns a message for the user about the target, or None. `check --connect` calls it on a sink that is not open. Override it
        if `open` does not connect, or creates something in the target.
        """
        self.open(context)
        self.close()
        return None

    @abstractmethod
    def begin(self, task: Task) -> Load:
        """Begin the delivery of one task; several may be under way at once."""

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The target's datapoints of `series` in `interval`, oldest first; raises SinkError if they cannot be read."""
        raise SinkError(f"a {type(self).__name__} cannot be read back")

    def views(self) -> Mapping[str, View]:
        """Other ways in which programs read what this sink stored, by name: `verify` compares each of them, too.

        They can be used while the sink is open.
        """
        return {}

    def ready(self) -> None:
        """Find out whether the target answers, before anything is read for the first task; raises SinkError if it does not.

        A sink whose `open` connects need not override this.
        """

    def shows(self, batch: Batch) -> Batch:
        """`batch` as `read` returns it after delivery: the same, except for what the target cannot store exactly."""
        return batch

    def target_keys(self, memory: Mapping[str, str]) -> dict[str, str]:
        """Metadata key in the source -> in the target, if they differ; from the notes in `memory`, without opening the sink."""
        return {}

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The sink that wrote the data at `place` (a path or a URL), with default options; None if another kind of sink wrote them."""
        return None

    def delivered(self) -> Mapping[SeriesId, IntervalSet]:
        """The time that has been delivered of each series that the target knows; the sink is open. Raises SinkError.

        Called if the `features` say that the target remembers it.
        """
        return {}

    def compact(self) -> str:
        """Merge the small files that deliveries left, and return a sentence that says how many were merged; called on a sink that is
        not open.

        Rows do not change, and runs and readers may go on meanwhile. Raises SinkError if this fails.
        """
        raise SinkError(f"a {type(self).__name__} keeps no files")

    def refusal(self, series: Series) -> str | None:
        """Why this sink can never take `series`, or None if it can; asked before anything is read."""
        return None
