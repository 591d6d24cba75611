"""The OpenSearch sink passes the suite of all sinks, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import pytest
from esmond_etl_opensearch.sink import OpenSearchSink

from esmond_etl import BASE, DataPoint, Metadata, Series, Served, Sink
from esmond_etl.testing import SinkSuite
from tests.servers.opensearch_node import OpenSearch

pytestmark = pytest.mark.slow


class TestOpenSearch(SinkSuite):
    event_types: ClassVar[tuple[str, ...]] = ("time-error-estimates", "histogram-owdelay", "failures")
    url: str
    name: str

    @pytest.fixture(autouse=True)
    def started(self, opensearch_node: OpenSearch) -> None:
        self.url, self.name = opensearch_node.url, uuid4().hex[:8]

    def sink(self, tmp_path: Path) -> Sink:
        return OpenSearchSink(url=self.url, stream=f"pscheduler_{self.name}_{{type}}")

    def given(self, key: str = "a1", days: int = 3, first: int = 0) -> dict[Series, list[DataPoint]]:
        """The same series, as those of one test."""
        found = super().given(key, days, first)
        offered = {each.event_type: {BASE: Served("")} for each in found}
        ends = ("192.0.2.1", "192.0.2.2", "192.0.2.1", "pscheduler/powstream", "a.example.net", "b.example.net")
        test = Metadata(f"{self.name}{key}", "point-to-point", *ends, {"pscheduler-test-type": "latencybg"}, offered)
        return {Series(test, each.event_type): points for each, points in found.items()}
