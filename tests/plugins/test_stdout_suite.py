"""The stdout sink passes the suite of all sinks, as far as lines that are printed can."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from esmond_etl_stdout.sink import StdoutSink

from esmond_etl import DataPoint, Series, Sink
from esmond_etl.testing import SinkSuite


class TestJsonLines(SinkSuite):
    columns = ("metadata_key", "event_type", "summary")

    @contextmanager
    def opened(self, tmp_path: Path) -> Iterator[Sink]:
        """The sink, open, while standard output goes to a file."""
        self.output = tmp_path / "output"
        with self.output.open("w", encoding="utf-8") as file, redirect_stdout(file), super().opened(tmp_path) as sink:
            yield sink

    def sink(self, tmp_path: Path) -> Sink:
        return StdoutSink(format="jsonl")

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]

    def delivered(self, sink: Sink, series: Series) -> list[DataPoint]:
        return [DataPoint(row["ts"], row["val"]) for row in self.rows() if tuple(row[name] for name in self.columns) == series.id]


class TestCsv(TestJsonLines):
    def sink(self, tmp_path: Path) -> Sink:
        return StdoutSink(format="csv")

    def rows(self) -> list[dict[str, Any]]:
        with self.output.open(encoding="utf-8", newline="") as file:
            return [{**row, "ts": int(row["ts"]), "val": json.loads(row["val"])} for row in csv.DictReader(file)]
