"""The result of a run, and the interface of progress observers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from esmond_etl.model.errors import EsmondEtlError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import SeriesId

if TYPE_CHECKING:
    from esmond_etl.engine.delivery import Outcome
    from esmond_etl.plugin.sink import Receipt


@dataclass
class Delivered:
    """The numbers of datapoints in one sink, and the versions of its tables."""

    written: int = 0
    unchanged: int = 0
    rejected: int = 0
    versions: dict[str, int] = field(default_factory=dict)  #: after the run, of the tables that it changed

    def add(self, receipt: Receipt) -> None:
        """Add the result of a task."""
        self.written += receipt.written
        self.unchanged += receipt.unchanged
        self.rejected += len(receipt.rejected)
        for table, version in receipt.versions.items():
            self.versions[table] = max(version, self.versions.get(table, 0))

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; versions only if there are any."""
        return {name: value for name, value in vars(self).items() if name != "versions" or value}


@dataclass
class Result:
    """The result of a run."""

    pipeline: str
    interval: Interval
    series: int = 0  #: series that had something left to do
    tasks: int = 0
    read: int = 0  #: datapoints
    faulty: int = 0  #: datapoints of the source that are not valid, and were left out
    sinks: dict[str, Delivered] = field(default_factory=dict)
    waiting: int = 0  #: rejected datapoints of this run and earlier ones, unless the file accepts them
    requests: int = 0
    received: int = 0  #: bytes
    seconds: float = 0
    profile: dict[str, float] = field(default_factory=dict)  #: CPU seconds by part, if they are measured
    failures: dict[SeriesId, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    note: str = ""  #: a message for the user about this run, shown first
    stopped: bool = False

    @property
    def complete(self) -> bool:
        """Whether all that was due has been delivered."""
        return not (self.failures or self.stopped or self.waiting)

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, for programs."""
        return {
            "pipeline": self.pipeline,
            "from": self.interval.start,
            "to": self.interval.end,
            "complete": self.complete,
            "stopped": self.stopped,
            "series": self.series,
            "tasks": self.tasks,
            "read": self.read,
            "faulty": self.faulty,
            "waiting": self.waiting,
            "written": sum(sink.written for sink in self.sinks.values()),
            "unchanged": sum(sink.unchanged for sink in self.sinks.values()),
            "rejected": sum(sink.rejected for sink in self.sinks.values()),
            "sinks": {label: sink.to_json() for label, sink in self.sinks.items()},
            "requests": self.requests,
            "bytes": self.received,
            "seconds": round(self.seconds, 3),
            **({"profile": {part: round(seconds, 3) for part, seconds in self.profile.items()}} if self.profile else {}),
            "failures": {str(series): message for series, message in self.failures.items()},
            "remarks": dict(self.remarks),
            "note": self.note,
        }


class IncompleteError(EsmondEtlError):
    """A run ended, and some of the data that were due were not delivered; `result` has the details."""

    def __init__(self, result: Result) -> None:
        super().__init__(_incomplete(result))
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result,)


def _incomplete(result: Result) -> str:
    parts = ["it was told to stop"] if result.stopped else []
    parts += [f"{result.waiting:,} rejected datapoints wait"] if result.waiting else []
    if result.failures:
        series, reason = next(iter(result.failures.items()))
        parts.append(f"{len(result.failures):,} series are not done, among them {series}: {reason}")
    return f"{result.pipeline}: {'; '.join(parts)}"


class Observer(Protocol):
    """Progress observer of a run."""

    def listed(self, series: int) -> None:
        """`number` series have been listed so far."""

    def planned(self, amount: int) -> None:
        """`amount` series-seconds are left to do in all."""

    def moved(self, amount: int, outcome: Outcome, result: Result) -> None:
        """A task of `amount` series-seconds has ended."""

    def waiting(self, text: str) -> None:
        """The run waits for the reason in `text`, or goes on if that is empty; called from several threads."""


class Unobserved:
    """An observer that ignores all."""

    def listed(self, series: int) -> None:
        """Ignore it."""

    def planned(self, amount: int) -> None:
        """Ignore it."""

    def moved(self, amount: int, outcome: Outcome, result: Result) -> None:
        """Ignore it."""

    def waiting(self, text: str) -> None:
        """Ignore it."""
