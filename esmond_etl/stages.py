"""What a pipeline is made of: sources, transforms and sinks, as the author of a plugin meets them.

A stage is a pydantic model. Its fields are its options: the keys in the TOML, their types and defaults, their description in the
schema for editors and in `esmond-etl plugins`, all from one place. A secret is a `SecretStr`. Nothing heavy is imported, and no
connection is made, before `open`.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from esmond_etl.batch import Batch, DataPoint
from esmond_etl.interval import DURATION_PATTERN, Interval, parse_duration
from esmond_etl.series import Series


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


#: An option that is a length of time: "90s", "15m", "6h", "1d" in the TOML, seconds in Python.
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    Field(strict=True, ge=0),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["15m", "6h", "1d"]}),
]


@dataclass
class Traffic:
    """What a stage has exchanged with a server so far; counted from several threads."""

    requests: int = 0
    received: int = 0  #: bytes, as they came over the wire
    sent: int = 0  #: bytes of the requests' bodies
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, received: int = 0, sent: int = 0) -> None:
        """Add one request."""
        with self._lock:
            self.requests += 1
            self.received += received
            self.sent += sent


@dataclass
class Context:
    """What a run lends to its stages while they are open."""

    pipeline: str = ""  #: its name
    parallel: int = 8  #: requests in flight at most
    memory: MutableMapping[str, str] = field(default_factory=dict)  #: a sink's own notes, kept in the ledger between runs
    source: Source | None = None  #: the pipeline's source, open: for a sink that needs a sibling of the series it is given
    stop: threading.Event = field(default_factory=threading.Event)  #: set when the run has been told to stop


class Stage(BaseModel):
    """A source, a transform or a sink; its fields are its options."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, defer_build=True)

    #: The options that say which data this stage is about (of a sink: where they go).
    place: ClassVar[tuple[str, ...]] = ()

    def open(self, context: Context) -> None:
        """Get ready: import what is heavy, connect; raises EsmondEtlError with a sentence that says what to do."""

    def close(self) -> None:
        """Let go of what `open` took."""

    @property
    def traffic(self) -> Traffic:
        """What it has exchanged with a server since it was opened."""
        return Traffic()


class Source(Stage):
    """Where series are read from."""

    @abstractmethod
    def series(self, interval: Interval) -> Iterator[Series]:
        """The series on offer that may have datapoints in `interval`, those of one metadata one after the other.

        Raises SourceError or ArchiveError if the list is not complete.
        """

    @abstractmethod
    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first.

        Raises SourceError or ArchiveError if any of them could not be read: a stream that ends is complete.
        """

    def first(self, series: Series, interval: Interval) -> int:
        """A moment (Unix time) that no datapoint of `series` in `interval` lies before; `interval.end` if there is none at all.

        A source that can find it with little effort saves a backfill the reading of years before the first measurement.
        """
        return interval.start

    def last(self, series: Series) -> float:
        """A moment (Unix time) that no datapoint of `series` lies after, as its list tells; infinity if that cannot be told.

        It spares a run the reading of what cannot be there. What lies after it is not noted as done.
        """
        return math.inf


class Transform(Stage):
    """What is done to the datapoints on their way; `event_types` limits any transform to some."""

    #: The options of type Duration that must divide the pipeline's window; `check` sees to it.
    divides_window: ClassVar[tuple[str, ...]] = ()

    #: Whether `apply` has no effect of its own and needs nothing that `open` gets ready: then `check` sends it an empty batch of each
    #: series that the file names, and reports the ConfigError that it raises.
    tried_offline: ClassVar[bool] = False

    event_types: list[str] | None = Field(None, description="only these event types; default: all")

    def concerns(self, series: Series) -> bool:
        """Whether `series` passes through this transform at all."""
        return self.event_types is None or series.event_type in self.event_types

    def becomes(self, series: Series) -> Series | None:
        """The series that the datapoints of `series` belong to afterwards; None if all of it is left out."""
        return series

    @abstractmethod
    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """What becomes of the batches of one series over one interval of whole windows.

        They come complete and oldest first, so state may live in local variables.
        """


class BatchTransform(Transform):
    """A transform that looks at one batch at a time, in columns."""

    @abstractmethod
    def apply_batch(self, batch: Batch) -> Batch:
        """What becomes of `batch`; it may get shorter."""

    def apply(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Every batch through `apply_batch`."""
        return map(self.apply_batch, batches)


class PointTransform(BatchTransform):
    """A transform that looks at one datapoint at a time: the easiest to write, and the slowest."""

    @abstractmethod
    def apply_point(self, point: DataPoint) -> DataPoint | None:
        """What becomes of `point`; None leaves it out."""

    def apply_batch(self, batch: Batch) -> Batch:
        """Every datapoint through `apply_point`."""
        points = (self.apply_point(point) for point in batch.to_points())
        return Batch.from_points(batch.series, (point for point in points if point is not None))


@dataclass(frozen=True, slots=True)
class Task:
    """Some series over one interval of whole windows: what is committed as one."""

    series: tuple[Series, ...]
    interval: Interval
    window: int  #: s; what the interval is made of

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


class Sink(Stage):
    """Where datapoints are delivered to.

    Delivering a task twice leaves the target as delivering it once does: whatever the same series had in the same interval before
    is replaced or found unchanged. That makes a crash at any moment harmless.
    """

    def reach(self, context: Context) -> None:
        """Find out whether a run could deliver, and write nothing; raises EsmondEtlError with a sentence that says what to do.

        It is asked of a sink that is not open, by `check --connect`. A sink whose `open` does not connect, or makes what is
        missing, has more to do here than to open and to close.
        """
        self.open(context)
        self.close()

    @abstractmethod
    def begin(self, task: Task) -> Load:
        """The way into the target for one task; several may be under way at once."""

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """What the target holds of `series` in `interval`, oldest first; raises SinkError if it cannot be read."""
        from esmond_etl.errors import SinkError  # the common case never gets here

        raise SinkError(f"a {type(self).__name__} cannot be read back")

    def shows(self, batch: Batch) -> Batch:
        """What `read` gives back of `batch` once it is delivered: the same, but for what the target cannot hold as it is."""
        return batch

    def refusal(self, series: Series) -> str | None:
        """Why this sink can never take `series`, or None if it can; asked before anything is read."""
        return None


def options(stage: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of the options of a stage, or of any other model."""
    return stage.model_json_schema(by_alias=True)
