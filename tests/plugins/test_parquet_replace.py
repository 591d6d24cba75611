"""Deliveries that overlap in time and in series: what readers see is what was delivered last."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow.dataset
import pytest
from esmond_etl_parquet.sink import ParquetSink
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import Context, Interval, Series
from esmond_etl.testing import DAY, START, deliver, points_of, series

EVENT_TYPES = ("throughput", "histogram-owdelay", "failures")
SERIES = [series(name, key=key) for key in ("k1", "k2", "k3") for name in EVENT_TYPES]
STEP = DAY // 4  # what the window of all these tasks is


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[ParquetSink]:
    sink = ParquetSink(path=str(path), **options)
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def value(of: Series, number: int) -> Any:
    if of.holds_numbers:
        return float(number)
    return {"10": number} if of.event_type == "histogram-owdelay" else {"error": str(number)}


def rows_by_reader(path: Path) -> dict[str, int]:
    """How many rows each reader finds in all files under `path`."""
    pattern = f"{path}/**/*.parquet"
    if not list(path.glob("**/*.parquet")):
        return {}
    counted = duckdb.connect().execute(f"select count(*) from read_parquet('{pattern}', hive_partitioning = true)").fetchone()
    return {
        "pyarrow": pyarrow.dataset.dataset(str(path), partitioning="hive").count_rows(),
        "duckdb": counted[0] if counted else 0,
        "polars": polars.scan_parquet(pattern, hive_partitioning=True, extra_columns="ignore", missing_columns="insert")
        .select(polars.len())
        .collect()
        .item(),
    }


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[Interval, dict[Series, list[int]]]:
    """One task: whole windows out of three days, and for some series the seconds that have a datapoint."""
    first = draw(st.integers(0, 11))
    interval = Interval(START + first * STEP, START + draw(st.integers(first + 1, 12)) * STEP)
    chosen = draw(st.lists(st.sampled_from(SERIES), min_size=1, max_size=len(SERIES), unique=True))
    seconds = st.lists(st.integers(interval.start, interval.end - 1), max_size=6, unique=True).map(sorted)
    return interval, {each: draw(seconds) for each in chosen}


@settings(max_examples=20, deadline=None)
@given(st.lists(deliveries(), min_size=1, max_size=6), st.booleans())
def test_readers_see_for_every_series_and_moment_what_was_delivered_last(
    tasks: list[tuple[Interval, dict[Series, list[int]]]], reopened: bool
) -> None:
    held: dict[Series, dict[int, Any]] = {each: {} for each in SERIES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out")
        for number, (interval, seconds) in enumerate(tasks):
            given = {each: [(ts, value(each, number)) for ts in moments] for each, moments in seconds.items()}
            for each, points in given.items():
                held[each] = {ts: val for ts, val in held[each].items() if not interval.start <= ts < interval.end} | dict(points)
            with opened(path) as sink:
                receipt = deliver(sink, given, interval, STEP)
                assert receipt.written == sum(map(len, given.values()))
                if reopened:
                    deliver(sink, given, interval, STEP)
        with opened(path) as sink:
            found = {each: dict(points_of(sink.read(each, Interval(START, START + 3 * DAY)))) for each in SERIES}
        assert found == held
        assert set(rows_by_reader(path).values()) <= {sum(map(len, held.values()))}
        assert not list(path.glob("_staging/*"))


def test_a_delivery_that_is_repeated_changes_neither_names_nor_numbers_of_files(tmp_path: Path) -> None:
    given = {each: [(START + hour * 3600, value(each, hour)) for hour in range(48)] for each in SERIES}
    seen = []
    for _ in range(2):
        with opened(tmp_path) as sink:
            deliver(sink, given, Interval(START, START + 2 * DAY))
        seen.append({file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.glob("**/*.p*q*")})
    assert seen[0] == seen[1]
    assert len(seen[0]) == len(EVENT_TYPES) * 2 + 1


def test_a_window_that_is_added_rewrites_no_file(tmp_path: Path) -> None:
    hours = [Interval(START + hour * 3600, START + (hour + 1) * 3600) for hour in range(5)]
    before: dict[Path, int] = {}
    for number, interval in enumerate(hours):
        with opened(tmp_path) as sink:
            deliver(sink, {each: [(interval.start, value(each, number))] for each in SERIES}, interval, 3600)
        files = {file: file.stat().st_mtime_ns for file in tmp_path.glob("**/*.parquet")}
        assert before.items() <= files.items()
        before = files
    assert len(before) == len(hours) * len(EVENT_TYPES)


@pytest.mark.parametrize("reader", ["pyarrow", "duckdb", "polars"])
def test_the_values_are_those_that_were_delivered(tmp_path: Path, reader: str) -> None:
    of = series("throughput", key="k1", note="it's “so”")
    with opened(tmp_path) as sink:
        deliver(sink, {of: [(START, 1.5), (START + DAY, 2.0**60)]}, Interval(START, START + 2 * DAY))
    pattern = f"{tmp_path}/**/*.parquet"
    tables = {
        "pyarrow": lambda: pyarrow.dataset.dataset(tmp_path, partitioning="hive").to_table(),
        "duckdb": lambda: duckdb.sql(f"from read_parquet('{pattern}', hive_partitioning = true)").to_arrow_table(),
        "polars": lambda: polars.scan_parquet(pattern, hive_partitioning=True).collect().to_arrow(),
    }
    table = tables[reader]()
    rows = table.set_column(0, "ts", table.column("ts").cast(pyarrow.timestamp("s", "UTC")).cast(pyarrow.int64())).to_pylist()
    subject = {
        "source": "192.0.2.1",
        "destination": "192.0.2.2",
        "measurement_agent": "192.0.2.1",
        "tool_name": "pscheduler/iperf3",
    }
    inputs = {"input_source": "192.0.2.1", "input_destination": "192.0.2.2", "parameters": '{"key":"k1","note":"it\'s “so”"}'}
    place = {"event_type": "throughput", "summary": "base"}
    assert sorted([{**row, "date": str(row["date"])} for row in rows], key=lambda row: row["ts"]) == [
        {"ts": START, "val": 1.5, "metadata_key": "k1", **subject, **inputs, **place, "date": "2014-01-01"},
        {"ts": START + DAY, "val": 2.0**60, "metadata_key": "k1", **subject, **inputs, **place, "date": "2014-01-02"},
    ]
