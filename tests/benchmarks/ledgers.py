"""Ledgers of pipelines that have run for years: `python -m tests.benchmarks.ledgers PIPELINE GAPS` makes one.

One series in GAPS (none if 0) lacks a few intervals.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing

from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.stream import Stream
from esmond_etl.model.interval import Interval
from esmond_etl.pipeline import file as config

DAY = 86400


def main() -> None:
    """Record all but the first year of what the pipeline wants."""
    pipeline, gaps = config.load(sys.argv[1]), int(sys.argv[2])
    wanted = pipeline.wanted(int(time.time()))
    done = Interval(wanted.start + 365 * DAY, wanted.end)
    with Stream(pipeline) as stream, closing(Ledger(pipeline.ledger_path)) as ledger:
        ledger.set_about("delivery", pipeline.delivery)
        series = [each.id for each in stream.series(wanted)]
        ledger.record(series, done)
        with_gaps = series[::gaps] if gaps else []
        for number in range(50 if gaps else 0):  # of fifty kinds, so that few series lack the same
            for days in (100, 900, 2000):
                start = done.start + (days + number) * DAY
                ledger.forget(Interval(start, start + DAY), with_gaps[number::50])


if __name__ == "__main__":
    main()
