"""Where datapoints are delivered to, one task at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import SinkError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.plugin.stage import Context, Stage


@dataclass(frozen=True, slots=True)
class Task:
    """Some series over one interval of whole windows: what is committed as one."""

    series: tuple[Series, ...]
    interval: Interval
    window: int  #: s; what the interval is made of
    sinks: tuple[str, ...] = ()  #: the labels of the sinks that lack it; empty: all of the pipeline

    @property
    def id(self) -> str:
        """A name that only the same series over the same interval have."""
        digest = sha256("\n".join(sorted(str(series) for series in self.series)).encode())
        return f"{self.interval.start}-{self.interval.end}-{digest.hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Reject:
    """A datapoint that a target will not have."""

    series: Series
    ts: int
    val: str  #: JSON text
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a task's datapoints in one sink."""

    written: int = 0
    unchanged: int = 0  #: the target already had them
    rejected: Sequence[Reject] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)  #: what the user should know -> of how many datapoints it is true


#: A remark of a receipt, for sinks that keep one datapoint of a series in each second.
EQUAL_IN_A_SECOND: Final = "datapoints that equal another one of their series in the same second: the target keeps one of them"


class Load(ABC):
    """One task on its way into one target."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take `batch`; called from several threads, for one series from one thread at a time, oldest first."""

    def end(self, series: Series) -> None:  # noqa: B027
        """All of `series` has been written; called once for each series of the task that was read to its end.

        These, and only these, `commit` delivers: what the target holds of a series that was not ended stays as it is.
        """

    @abstractmethod
    def commit(self) -> Receipt:
        """What became of the datapoints; returns once they are durable in the target."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo what can be undone: the task will be delivered again."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a sink can do: callers ask for it instead of trying."""

    repeats: bool = True  #: delivering a task again leaves the target as it was; not true of a stream such as standard output
    replaces: bool = True  #: what a later delivery of the same time no longer has, or has with another value, is removed
    undoes: bool = True  #: a rollback leaves nothing of the task in the target; else only the next delivery makes it whole
    reads_back: bool = True  #: `read` returns what the target holds
    merges: bool = False  #: the target may hold the same series from elsewhere: they are compared, and kept
    several_hosts: bool = False  #: tasks may be delivered from several hosts at the same time
    one_a_second: bool = False  #: of equal datapoints of a series in one second, the target keeps one
    summarizes: bool = False  #: the target makes summaries of what it is given, and `read` returns them, too
    together: int = 0  #: s; what the target holds of many series in so much time is read as fast as one of them; 0: it is not
    overwrites: bool = False  #: another pipeline can overwrite the same series there, and the target cannot tell whose they are
    compacts: bool = False  #: it keeps files, and `compact` merges those that are small
    prints: bool = False  #: datapoints go to standard output, so nothing else may


class Sink(Stage):
    """Where datapoints are delivered to.

    Delivering a task twice leaves the target as delivering it once does: whatever the same series had in the same interval before
    is replaced or found unchanged. That makes a crash at any moment harmless.
    """

    @property
    def features(self) -> Features:
        """What this sink can do, with the options that it has."""
        return Features()

    def reach(self, context: Context) -> str | None:
        """Find out whether a run could deliver, and write nothing; raises EsmondEtlError with a sentence that says what to do.

        Returns what the user should know about the target, if there is anything.

        It is asked of a sink that is not open, by `check --connect`. A sink whose `open` does not connect, or makes what is
        missing, has more to do here than to open and to close.
        """
        self.open(context)
        self.close()
        return None

    @abstractmethod
    def begin(self, task: Task) -> Load:
        """The way into the target for one task; several may be under way at once."""

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """What the target holds of `series` in `interval`, oldest first; raises SinkError if it cannot be read."""
        raise SinkError(f"a {type(self).__name__} cannot be read back")

    def ready(self) -> None:
        """Find out, before anything is read for the first task, whether the target answers; raises SinkError if it does not.

        A sink whose `open` connects has nothing to do here.
        """

    def shows(self, batch: Batch) -> Batch:
        """What `read` gives back of `batch` once it is delivered: the same, but for what the target cannot hold as it is."""
        return batch

    def target_keys(self, memory: Mapping[str, str]) -> dict[str, str]:
        """Metadata key in the source -> in the target, where these differ; from the notes in `memory`, without opening the sink."""
        return {}

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The sink, without further options, that wrote what is at `place` (a path or a URL); None if another kind of sink did."""
        return None

    def compact(self) -> str:
        """Merge the small files that deliveries left, and say what has become of how many; asked of a sink that is not open.

        Rows stay as they are, and runs and readers may be at work meanwhile. Raises SinkError if it cannot be done.
        """
        raise SinkError(f"a {type(self).__name__} keeps no files")

    def refusal(self, series: Series) -> str | None:
        """Why this sink can never take `series`, or None if it can; asked before anything is read."""
        return None
