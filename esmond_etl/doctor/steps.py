"""Where the level of a series changes for good."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

#: This many datapoints on either side determine the level.
SIDE: Final = 8

#: A change of level is larger than this, ms, and than this many times the spread of the datapoints before it.
LEAST: Final = 1.0
SPREADS: Final = 6


class Step(NamedTuple):
    """A level that has changed."""

    ts: int  #: Unix time of the first datapoint on the new level; about
    before: float
    after: float

    @property
    def change(self) -> float:
        """How much it has risen."""
        return self.after - self.before


def steps(ts: Sequence[int], values: Sequence[float]) -> list[Step]:
    """The changes of level, oldest first: medians of `SIDE` datapoints on either side are compared."""
    known = [(moment, value) for moment, value in zip(ts, values, strict=True) if not math.isnan(value)]
    levels = list(_levels([value for _, value in known]))
    found: list[Step] = []
    run: list[tuple[int, Step]] = []  # a change is seen at several datapoints: the middle one of the largest is taken
    for index in range(SIDE, len(levels)):
        before, spread = levels[index - SIDE]
        step = Step(known[index][0], before, levels[index][0])
        if abs(step.change) > max(LEAST, SPREADS * spread):
            run.append((index, step))
        elif run:
            found.append(_middle(run))
            run = []
    return found + ([_middle(run)] if run else [])


def _middle(run: list[tuple[int, Step]]) -> Step:
    most = max(abs(step.change) for _, step in run)
    largest = [step for _, step in run if abs(step.change) >= 0.95 * most]
    return largest[len(largest) // 2]


def _levels(values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """The median of each `SIDE` values in a row, and the spread of the middle half of them."""
    window: list[float] = []
    for index, value in enumerate(values):
        insort(window, value)
        if index >= SIDE:
            del window[bisect_left(window, values[index - SIDE])]
        if index >= SIDE - 1:
            yield (window[SIDE // 2 - 1] + window[SIDE // 2]) / 2, window[-SIDE // 4 - 1] - window[SIDE // 4]
