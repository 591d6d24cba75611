"""The Parquet sink and source pass the suites of all sinks and sources."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_parquet.source import ParquetSource

from esmond_etl import Context, Interval, Series, Sink, Source
from esmond_etl.testing import DAY, START, Points, SinkSuite, SourceSuite, deliver, series

THREE_DAYS = Interval(START, START + 3 * DAY)

GIVEN: dict[Series, Points] = {
    series("throughput", key="k1"): [(START + hour * 3600, float(hour)) for hour in range(60)],
    series("throughput", "average/86400", key="k1"): [(START, 11.5), (START + DAY, 35.5)],
    series("histogram-owdelay", key="k1"): [(START + hour * 7200, {"38.5": hour, "39": 2**40}) for hour in range(30)],
    series("failures", key="k2"): [(START + 5, {"error": "“no”\n"}), (START + DAY, None), (START + 2 * DAY, [1, "two", 3.5])],
}


class TestSink(SinkSuite):
    def sink(self, tmp_path: Path) -> Sink:
        return ParquetSink(path=str(tmp_path / "out"))


class TestSinkWithHistogramsAsText(SinkSuite):
    def sink(self, tmp_path: Path) -> Sink:
        return ParquetSink(path=str(tmp_path / "out"), histograms="json")


class TestSource(SourceSuite):
    interval = THREE_DAYS

    @pytest.fixture(autouse=True)
    def exported(self, tmp_path: Path) -> None:
        sink = ParquetSink(path=str(tmp_path / "out"))
        sink.open(Context())
        deliver(sink, GIVEN, THREE_DAYS)
        sink.close()

    def source(self, tmp_path: Path) -> Source:
        return ParquetSource(path=str(tmp_path / "out"))

    def expected(self) -> Mapping[str, Points]:
        return {str(each): points for each, points in GIVEN.items()} | {"k1/throughput/base": GIVEN[series("throughput", key="k1")]}

    def broken(self, tmp_path: Path) -> Source:
        for file in (tmp_path / "out").glob("event_type=failures/**/*.parquet"):
            file.write_bytes(file.read_bytes()[:-100])
        return self.source(tmp_path)
