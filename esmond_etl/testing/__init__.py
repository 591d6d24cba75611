"""For the tests of plugins: a source and a sink in memory, and the suites that every source and every sink must pass.

class TestMySink(SinkSuite):
    def sink(self, tmp_path: Path) -> Sink:
        return MySink(path=str(tmp_path / "out"))
"""

from esmond_etl.testing.datapoints import DAY, START, Points, deliver, points_of, series, skip, through
from esmond_etl.testing.environments import Environment
from esmond_etl.testing.recorded import CollectedSink, RecordedSource
from esmond_etl.testing.sinks import SinkSuite
from esmond_etl.testing.sources import SourceSuite

__all__ = [
    "DAY",
    "START",
    "CollectedSink",
    "Environment",
    "Points",
    "RecordedSource",
    "SinkSuite",
    "SourceSuite",
    "deliver",
    "points_of",
    "series",
    "skip",
    "through",
]
