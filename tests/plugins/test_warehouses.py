"""The same questions, asked of the same measurements in Parquet, Delta, PostgreSQL and InfluxDB: the queries of the docs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as driver
import duckdb
import esmond_etl_archive
import pytest
import requests
from deltalake import DeltaTable
from esmond_etl_archive.samples import START

import esmond_etl

pytestmark = pytest.mark.slow

DAYS = 3
DOCS = Path(__file__).parents[2] / "docs" / "warehouse.md"
DATABASE = "warehouses"

Answer = dict[tuple[str, str, date], float]  #: source, destination, day


@pytest.fixture
def loaded(archive: Any, database: str, influxdb: str, influxd: str, tmp_path: Path) -> dict[str, Any]:
    """How to ask each warehouse, by its name in the docs."""
    requests.post(f"{influxd}/query", params={"q": f"CREATE DATABASE {DATABASE}"}, timeout=30).raise_for_status()
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=DAYS, hosts=3))
    result = esmond_etl.Pipeline(
        "p",
        source={"type": "esmond", "url": archive.url},
        sinks=[
            {"type": "parquet", "path": str(tmp_path / "perfsonar")},
            {"type": "delta", "path": str(tmp_path / "lake")},
            {"type": "sql", "url": database},
            {"type": "influxdb", "url": influxdb, "database": DATABASE},
        ],
        from_=START,
        to=START + DAYS * 86400,
        ledger=str(tmp_path / "ledger"),
    ).run()
    assert result.complete
    tables = duckdb.connect()
    for name in ("throughput", "packet-loss-rate", "packet-trace"):
        tables.register(name, DeltaTable(tmp_path / "lake" / name).to_pyarrow_dataset())

    def in_influxdb(query: str) -> Answer:
        text = query.replace("$from", f"{START}s").replace("$to", f"{START + DAYS * 86400}s")
        said = requests.get(f"{influxd}/query", params={"db": DATABASE, "epoch": "s", "q": text}, timeout=30).json()["results"][0]
        assert "error" not in said, said
        return {
            (each["tags"]["source"], each["tags"]["destination"], datetime.fromtimestamp(ts, UTC).date()): value
            for each in said["series"]
            for ts, value in each["values"]
        }

    def in_postgresql(query: str) -> Answer:
        with driver.connect(database) as server, server.cursor() as cursor:
            cursor.execute(query)
            return _answer(cursor.fetchall())

    return {
        "Parquet": lambda query: _answer(duckdb.sql(query.replace("/data/perfsonar", str(tmp_path / "perfsonar"))).fetchall()),
        "Delta": lambda query: _answer(tables.sql(query).fetchall()),
        "PostgreSQL": in_postgresql,
        "InfluxDB": in_influxdb,
    }


def _answer(rows: list[tuple[Any, ...]]) -> Answer:
    return {(source, destination, day): value for source, destination, day, value in rows}


def questions() -> dict[str, dict[str, str]]:
    """Each question of the docs, with the query for each warehouse."""
    found: dict[str, dict[str, str]] = {}
    for question, queries in re.findall(
        r"^\*\*(.+?)\*\*.*?\n((?:\s*```sql\n.*?```\n)+)", DOCS.read_text(), re.DOTALL | re.MULTILINE
    ):
        found[question] = dict(re.findall(r"```sql\n-- (\w+)\n(.*?);?\n```", queries, re.DOTALL))
    return found


def test_all_warehouses_give_the_same_answers(loaded: dict[str, Any]) -> None:
    asked = questions()
    assert [sorted(queries) for queries in asked.values()] == [sorted(loaded)] * 3
    for question, queries in asked.items():
        answers = {name: loaded[name](query) for name, query in queries.items()}
        first = answers.pop("Parquet")
        assert len({day for _, _, day in first}) == DAYS, question
        assert len(set(first.values())) > 1, question
        for name, answer in answers.items():
            assert answer.keys() == first.keys(), (question, name)
            assert answer == pytest.approx(first, rel=1e-12), (question, name)


def test_the_demo_delivers_to_a_time_series_database_that_is_running(victoria: str, tmp_path: Path) -> None:
    where = {"INFLUXDB_URL": victoria, "INFLUXDB_TOKEN": "t", "INFLUXDB_ORG": "o", "INFLUXDB_BUCKET": "demo"}
    command = [sys.executable, "-m", "esmond_etl", "demo", "--days", "1", "--with", "influxdb"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **where}, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert rows["throughput"][1:] == [rows["throughput"][1]] * 3 + ["0"]
    assert "WARNING" not in done.stderr
