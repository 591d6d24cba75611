"""Findings of the doctor, and their meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from esmond_etl.model.interval import moment
from esmond_etl.model.series import Series

#: Kind of finding -> its meaning, and what to do.
MEANINGS: Final = {
    "clock-error": "The clocks may be wrong by more than the delay itself: do not trust the delay, and check NTP or PTP on both hosts.",
    "negative-delay": "No packet arrives before it was sent: the clocks of the two hosts disagree.",
    "bucket-width": "All delays changed by a power of ten at once: the buckets have another unit from then on. Compare the parameter"
    " `sample-bucket-width` with what the tool really writes.",
    "impossible-loss": "More packets were lost than sent, or fewer than none: leave these datapoints out of every mean.",
    "loss-mismatch": "The loss rate is not the number of lost packets over the number of sent ones: one of the three is wrong.",
    "count-mismatch": "The histogram does not count the packets that were received (sent less lost, and duplicates): some delays are"
    " missing, or counted twice.",
    "negative-number": "A number of packets, bytes or bits cannot be negative: the tool, or what stored the result, failed.",
    "silent": "The test has stopped while others went on: it was removed, its host is down, or the results no longer arrive.",
    "clock-jump": "The delay rose in one direction and fell by as much in the other one: a clock jumped, the path did not change.",
    "doubled": "The same results are there more than once: counts and means over them are wrong.",
    "future": "No result can have been measured after now: the clock of the host that stored it is, or was, wrong.",
    "changed-key": "The test was changed, and so got another metadata key: read the two as one series.",
    "unreadable": "The datapoints could not be read or examined.",
}


@dataclass(frozen=True)
class Finding:
    """A measurement that cannot be right."""

    kind: str  #: a key of `MEANINGS`
    series: Series
    start: int  #: Unix time of the first datapoint that it applies to
    end: int  #: and of the last
    count: int  #: number of datapoints that it applies to
    evidence: str

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with times in ISO 8601."""
        entry = self.series.metadata
        ends = {"source": entry.source, "destination": entry.destination}
        times = {"from": moment(self.start), "to": moment(self.end)}
        return {"kind": self.kind, "series": str(self.series.id), **ends, **times, "count": self.count, "evidence": self.evidence}


def at(kind: str, series: Series, moments: Sequence[int], evidence: str) -> Finding:
    """A finding that applies to the datapoints at `moments`, at least one."""
    return Finding(kind, series, min(moments), max(moments), len(moments), evidence)
