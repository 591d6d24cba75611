"""The SQL sink passes the suite of all sinks, on each of its databases."""

from pathlib import Path

import pytest
from esmond_etl_sql.sink import SQLSink

from esmond_etl import Sink
from esmond_etl.testing import SinkSuite

pytestmark = pytest.mark.slow


class TestSQLite(SinkSuite):
    def sink(self, tmp_path: Path) -> Sink:
        return SQLSink(url=f'sqlite:{tmp_path}/it\'s a "file".db', prefix='a "b" ')


class TestDuckDB(SinkSuite):
    def sink(self, tmp_path: Path) -> Sink:
        return SQLSink(url=f"duckdb:{tmp_path}/out.duckdb", schema="perf sonar")


class TestPostgreSQL(SinkSuite):
    url: str

    @pytest.fixture(autouse=True)
    def started(self, database: str) -> None:
        self.url = database

    def sink(self, tmp_path: Path) -> Sink:
        return SQLSink(url=self.url, schema='perf "sonar"')
