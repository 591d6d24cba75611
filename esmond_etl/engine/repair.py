"""Repair: windows that differ are marked as not done, and delivered again."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing

from esmond_etl.engine.files import lock
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.result import Observer, Result, Unobserved
from esmond_etl.engine.run import run
from esmond_etl.engine.verify import Compared, Piece
from esmond_etl.model.interval import Interval, IntervalSet, floor
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.pipeline.definition import Definition


def damaged(differing: Iterable[Compared], series: Iterable[Series], window: int) -> list[Piece]:
    """The windows with differences, by series."""
    found: dict[SeriesId, set[tuple[int, int]]] = defaultdict(set)
    for each in differing:
        found[each.series] |= {(floor(ts, window), floor(ts, window) + window) for ts in each.moments}
    by_id = {each.id: each for each in series}
    return [Piece(by_id[each], IntervalSet.of(sorted(windows))) for each, windows in found.items() if windows]


def repair(definition: Definition, pieces: Iterable[Piece], observer: Observer | None = None) -> Result:
    """Deliver some windows again, and whatever else is due in the time from the first to the last of them; returns the result of that run.

    Raises LockedError if a run is under way.
    """
    spans = [interval for piece in pieces for interval in piece.intervals]
    with lock(definition.ledger_path.with_suffix(".lock")), closing(Ledger(definition.ledger_path)) as ledger:
        for piece in pieces:
            for interval in piece.intervals:
                ledger.forget(interval, [piece.series.id])
    hull = Interval(min(span.start for span in spans), max(span.end for span in spans))
    to = min(hull.end, definition.wanted(int(time.time())).end)
    return run(definition, observer or Unobserved(), None, hull.start, to, False, 0, None)
