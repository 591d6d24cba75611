"""A tree keeps to docs/parquet-format.md: what is written here of the format is taken from that page, not from the code."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
from esmond_etl_parquet.sink import ParquetSink

from esmond_etl import Context, Interval, Metadata, Series
from esmond_etl.testing import deliver

DAY = 86400
FILE = re.compile(r"(-?\d+)-(-?\d+)-([0-9a-f]{16})(-[0-9a-f]{8})?\.parquet")


def test_every_file_is_what_the_specification_says(tmp_path: Path) -> None:
    series = [Series(Metadata(f"k{number}"), "throughput") for number in range(3)]
    points = [(ts, float(ts)) for ts in range(0, 2 * DAY, 3600)]
    sink = ParquetSink(path=str(tmp_path / "out"))
    sink.open(Context("p"))
    deliver(sink, dict.fromkeys(series, points), Interval(0, 2 * DAY))
    deliver(sink, {series[0]: points[:5]}, Interval(0, DAY))  # a narrower delivery replaces a part
    sink.close()
    files = sorted((tmp_path / "out").rglob("*.parquet"))
    held = set()
    for file in files:
        assert re.fullmatch(
            r"event_type=throughput/summary=base/date=\d{4}-\d\d-\d\d", str(file.parent.relative_to(tmp_path / "out"))
        )
        found = FILE.fullmatch(file.name)
        assert found
        footer = pq.read_metadata(file).metadata
        keys = json.loads(footer[b"esmond_etl.metadata_keys"])
        assert keys == sorted(keys)
        assert found[3] == sha256("\n".join(keys).encode()).hexdigest()[:16]
        for row in pq.ParquetFile(file).read().to_pylist():
            ts = int(row["ts"].timestamp())
            assert int(found[1]) <= ts < int(found[2])
            assert file.parent.name == f"date={datetime.fromtimestamp(ts, UTC).date()}"
            assert row["metadata_key"] in keys
            assert (row["metadata_key"], ts) not in held  # a datapoint is in one file alone
            held.add((row["metadata_key"], ts))
    # the second delivery took away what the first had of that series on the first day
    expected = {(each.metadata.key, ts) for each in series for ts, _ in points if each != series[0] or ts >= DAY or ts < 5 * 3600}
    assert held == expected
    table = pq.read_table(tmp_path / "out" / "metadata" / "_table.pq")
    assert table.column("metadata_key").to_pylist() == ["k0", "k1", "k2"]
    assert not list((tmp_path / "out" / "_staging").glob("*.journal"))
