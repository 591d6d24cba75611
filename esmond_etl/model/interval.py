"""Time: half-open intervals of Unix seconds, sets of intervals, durations ("1d"), and times as text."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time
from typing import Final, NamedTuple

#: Seconds in each unit that a duration may be written in.
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

DURATION_PATTERN: Final = r"^[0-9]{1,10}[smhdw]$"

#: No duration is longer, s: 100 years.
LONGEST: Final = 36525 * 86400


_DURATION: Final = r"[0-9]+[smhdw]"
_BEYOND: Final = 30  # digits


class Interval(NamedTuple):
    """The whole seconds from `start` (included) to `end` (not included), in Unix time."""

    start: int
    end: int

    @property
    def seconds(self) -> int:
        """How long it is, s."""
        return self.end - self.start

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two overlap."""
        return self.start < other.end and other.start < self.end

    def intersection(self, other: "Interval") -> "Interval":
        """The overlap of the two; empty (end == start) if they do not overlap."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.end, other.end)))

    def pieces(self, size: int) -> Iterator["Interval"]:
        """The interval, cut at every multiple of `size` seconds of Unix time."""
        start = self.start
        while start < self.end:
            end = min(self.end, floor(start, size) + size)
            yield Interval(start, end)
            start = end

    def __str__(self) -> str:
        return f"{moment(self.start)} to {moment(self.end)}"


class IntervalSet(tuple[Interval, ...]):
    """Intervals in ascending order that neither overlap nor touch."""

    __slots__ = ()

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> "IntervalSet":
        """The union of `intervals`, which may come in any order, overlap, or be empty."""
        merged: list[Interval] = []
        for start, end in sorted(pair for pair in intervals if pair[0] < pair[1]):
            if merged and start <= merged[-1].end:
                merged[-1] = Interval(merged[-1].start, max(end, merged[-1].end))
            else:
                merged.append(Interval(start, end))
        return cls(merged)

    def union(self, other: Iterable[tuple[int, int]]) -> "IntervalSet":
        """The union of the two."""
        return IntervalSet.of([*self, *other])

    def minus(self, other: "IntervalSet") -> "IntervalSet":
        """The time in `self` that is not in `other`."""
        left: list[Interval] = []
        cuts = iter(other)
        cut = next(cuts, None)
        for start, end in self:
            while cut and cut.end <= start:
                cut = next(cuts, None)
            while cut and cut.start < end:
                if start < cut.start:
                    left.append(Interval(start, cut.start))
                start = min(end, cut.end)
                if cut.end > end:
                    break
                cut = next(cuts, None)
            if start < end:
                left.append(Interval(start, end))
        return IntervalSet(left)

    def within(self, bounds: Interval) -> "IntervalSet":
        """The part that lies inside `bounds`."""
        return IntervalSet.of(interval.intersection(bounds) for interval in self if interval.overlaps(bounds))

    @property
    def seconds(self) -> int:
        """The total time that it covers, s."""
        return sum(interval.seconds for interval in self)


def floor(ts: int, size: int) -> int:
    """The last multiple of `size` that is not after `ts`."""
    return ts - ts % size


def ceil(ts: int, size: int) -> int:
    """The first multiple of `size` that is not before `ts`."""
    return -floor(-ts, size)


def parse_duration(text: str) -> int:
    """Seconds in a duration such as "90s", "15m", "6h", "30d" or "2w".

    Raises ValueError if it is not a whole number and one unit, or more than 100 years.
    """
    if not re.fullmatch(_DURATION, text):
        raise ValueError(f'{text!r} is not a duration: write a whole number and a unit, such as "90s", "15m", "6h", "1d"')
    seconds = _whole(text[:-1]) * UNITS[text[-1]]
    if seconds > LONGEST:
        raise ValueError(f"{text!r:.40} is too long: no duration is longer than 100 years")
    return seconds


def _whole(digits: str) -> int:
    """The number; of one with too many digits, only the first ones, which are already out of range."""
    return int(digits.lstrip("0")[:_BEYOND] or 0)


def format_duration(seconds: int) -> str:
    """The shortest text for which `parse_duration` returns `seconds`."""
    for unit, size in reversed(UNITS.items()):
        if unit != "w" and seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def parse_moment(value: object, now: int) -> int:
    """Unix time of a TOML date or time, an ISO 8601 text, Unix seconds, "now", or an age such as "30d".

    A time without a zone is UTC. Raises ValueError if it is none of them.
    """
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, date):
        return int(datetime.combine(value, time(), UTC).timestamp())
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _parse_moment_text(value.strip(), now)
    raise ValueError(f"{value!r} is not a time")


def _parse_moment_text(text: str, now: int) -> int:
    if text == "now":
        return now
    if re.fullmatch(_DURATION, text):
        return now - _whole(text[:-1]) * UNITS[text[-1]]
    if re.fullmatch(r"[0-9]{9,}", text):
        return _whole(text)
    try:
        return parse_moment(datetime.fromisoformat(text), now)
    except ValueError:
        raise ValueError(
            f'{text!r} is not a time: write a date or time such as "2014-03-01" or "2014-03-01T12:00:00Z", or an age such as "30d"'
        ) from None


def moment(ts: int) -> str:
    """Unix time as text, in UTC: 2014-03-01T12:00:00Z, or 2014-03-01 for midnight."""
    text = datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text.removesuffix("T00:00:00Z")
