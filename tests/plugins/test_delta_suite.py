"""The Delta sink and source pass the suites of all sinks and sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from esmond_etl_delta.sink import DeltaSink
from esmond_etl_delta.source import DeltaSource

from esmond_etl import Context, Interval, Series, Sink, Source
from esmond_etl.testing import DAY, START, Points, SinkSuite, SourceSuite, deliver, series

THREE_DAYS = Interval(START, START + 3 * DAY)

GIVEN: dict[Series, Points] = {
    series("throughput", key="k1"): [(START + hour * 3600, float(hour)) for hour in range(60)],
    series("throughput", "average/86400", key="k1"): [(START, 11.5), (START + DAY, 35.5)],
    series("histogram-owdelay", key="k1"): [(START + hour * 7200, {"38.5": hour, "39": 2**40}) for hour in range(30)],
    series("histogram-owdelay", "statistics/86400", key="k1"): [(START, {"mean": 38.6, "mode": [38.5, 39.0]})],
    series("failures", key="k'2"): [(START + 5, {"error": "“no”\n"}), (START + DAY, None), (START + 2 * DAY, [1, "two", 3.5])],
}


class TestSink(SinkSuite):
    forks: ClassVar[bool] = False  # test_delta_kill.py kills it in processes of its own

    def sink(self, tmp_path: Path) -> Sink:
        return DeltaSink(path=str(tmp_path / "lake"))


class TestSinkWithHistogramsAsText(TestSink):
    def sink(self, tmp_path: Path) -> Sink:
        return DeltaSink(path=str(tmp_path / "lake"), histograms="json")


class TestSource(SourceSuite):
    interval = THREE_DAYS

    @pytest.fixture(autouse=True)
    def exported(self, tmp_path: Path) -> None:
        sink = DeltaSink(path=str(tmp_path / "lake"))
        sink.open(Context())
        deliver(sink, GIVEN, THREE_DAYS)
        sink.close()

    def source(self, tmp_path: Path) -> Source:
        return DeltaSource(path=str(tmp_path / "lake"))

    def expected(self) -> Mapping[str, Points]:
        return {str(each): points for each, points in GIVEN.items()} | {"k1/throughput/base": GIVEN[series("throughput", key="k1")]}

    def broken(self, tmp_path: Path) -> Source:
        for file in (tmp_path / "lake" / "failures").rglob("*.parquet"):
            file.write_bytes(file.read_bytes()[:-100])
        return self.source(tmp_path)
