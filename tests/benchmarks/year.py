"""A year loaded hour by hour, and compacted every night: `python -m tests.benchmarks.year FOLDER DAYS [parquet|delta]`, facts as JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable
from esmond_etl_delta.sink import DeltaSink
from esmond_etl_parquet.sink import ParquetSink

from esmond_etl import Batch, Context, Interval, Series, Sink, Task
from esmond_etl.model.columns import json_column, number_column, ts_column
from esmond_etl.testing import DAY, START, series
from tests.benchmarks.data import HISTOGRAMS, NUMBERS

HOUR = 3600
EVERY = 900  #: s between two datapoints of a series
METADATA = 200


def hour_of(each: Series, start: int) -> Batch:
    """The datapoints of a series in an hour."""
    ts = ts_column(array("q", range(start, start + HOUR, EVERY)))
    if each.event_type in HISTOGRAMS:
        return Batch.of(each, ts, json_column([b'{"10.1": %d, "10.2": 3, "11.7": 1}' % (value % 600) for value in range(len(ts))]))
    return Batch.of(each, ts, number_column(array("d", (start + value for value in range(len(ts))))))


def sink_of(folder: str) -> Sink:
    """The sink that is measured."""
    return DeltaSink(path=folder) if "delta" in sys.argv else ParquetSink(path=folder)


def load(folder: str, all_series: Sequence[Series], start: int) -> None:
    """What a run on a schedule does of an hour, once it has been read."""
    sink = sink_of(folder)
    sink.open(Context())
    try:
        load = sink.begin(Task(tuple(all_series), Interval(start, start + HOUR), HOUR))
        for each in all_series:
            load.write(hour_of(each, start))
            load.end(each)
        load.commit()
    finally:
        sink.close()


@contextmanager
def timed(facts: dict[str, float], what: str) -> Iterator[None]:
    """Add what something takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    facts[f"{what}: s"] = facts.get(f"{what}: s", 0) + time.perf_counter() - wall
    facts[f"{what}: s of CPU"] = facts.get(f"{what}: s of CPU", 0) + time.process_time() - cpu
    facts["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def forget_quickly(folder: str) -> None:
    """Let the logs of tables expire at once: a year here takes an hour, and they would never do so."""
    for log in Path(folder).glob("*/_delta_log"):
        DeltaTable(log.parent).alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})


def files(folder: str) -> Iterator[Path]:
    """All files that hold datapoints, of the newest version."""
    if "delta" in sys.argv:
        tables = (path.parent for path in Path(folder).glob("*/_delta_log") if path.parent.name not in ("metadata", "owners"))
        return (Path(file) for table in tables for file in DeltaTable(table).file_uris())
    return (path for path in Path(folder).glob("event_type=*/**/*.parquet"))


def counted(facts: dict[str, float], folder: str, when: str) -> None:
    """Note how many files there are, and of what size."""
    a_day = Counter(path.parent for path in files(folder))
    facts[f"files {when}"] = a_day.total()
    facts[f"most files of an event type and day {when}"] = max(a_day.values())
    facts[f"MB {when}"] = sum(path.stat().st_size for path in files(folder)) / 1e6


def main() -> None:
    """Load, compact, print what was noted."""
    folder, days = sys.argv[1], int(sys.argv[2])
    facts: dict[str, float] = {"days": days, "series": METADATA * len(NUMBERS + HISTOGRAMS)}
    all_series = [series(name, key=f"{number:032x}") for number in range(METADATA) for name in NUMBERS + HISTOGRAMS]
    facts["datapoints"] = len(all_series) * days * DAY // EVERY
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for day in range(days):
        with timed(facts, "loading"):
            for hour in range(24):
                load(folder, all_series, START + day * DAY + hour * HOUR)
        if not day and "delta" in sys.argv:
            forget_quickly(folder)
        with timed(facts, "compacting"):
            sink_of(folder).compact()
    counted(facts, folder, "in the end")
    print(json.dumps({name: round(value, 1) for name, value in facts.items()}))


if __name__ == "__main__":
    main()
