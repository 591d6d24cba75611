"""What docs/parquet.md says of the tree is so, and its queries run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from esmond_etl_parquet.sink import ParquetSink

from esmond_etl import Context, Interval, Series
from esmond_etl.tables import catalog
from esmond_etl.tables.columns import SUBJECT
from esmond_etl.tables.typed import TYPES
from esmond_etl.testing import DAY, START, deliver, series

TEXT = (Path(__file__).parents[2] / "docs" / "parquet.md").read_text(encoding="utf-8")

GIVEN: dict[Series, Any] = {
    series("throughput"): [(START, 2e9), (START + 60, 4e9)],
    series("histogram-owdelay"): [(START, {"19.5": 7, "20.5": 3, "31": 1})],
    series("packet-trace"): [(START, [{"ttl": 1, "success": 1, "ip": "192.0.2.1"}, {"ttl": 2, "success": 0}])],
}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree as the document has it, where the document says."""
    monkeypatch.chdir(tmp_path)
    sink = ParquetSink(path="out/")
    sink.open(Context())
    try:
        deliver(sink, GIVEN, Interval(START, START + DAY))
    finally:
        sink.close()
    return tmp_path / "out"


def test_the_queries_find_what_is_there(out: Path) -> None:
    found = re.search(r"```sql\n(.*?)```", TEXT, re.DOTALL)
    assert found
    subject = series("throughput").metadata
    queries = found[1].replace("198.51.100.10", str(subject.source)).replace("192.0.2.10", str(subject.destination))
    mean, slow, hops, lately = [duckdb.sql(query).fetchall() for query in queries.split(";\n") if query.strip()]
    assert [value for _, value in mean] == [3.0]
    assert [count for _, count in slow] == [4]
    assert hops == [("192.0.2.1", 1)]
    assert [row[:3] for row in lately] == [(subject.source, subject.destination, subject.tool_name)]


def test_the_python_finds_what_is_there(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert found
    exec(found[1], {})
    printed = capsys.readouterr().out
    assert re.search(r"┆ 3\.0 ", printed)
    assert "2000000000" in printed
    assert "4000000000" in printed


def test_every_column_and_option_is_documented() -> None:
    names = [*SUBJECT, "ts", "val", *TYPES, *catalog.SCHEMA.names, *ParquetSink.model_fields]
    assert [name for name in names if f"`{name}`" not in TEXT] == []
