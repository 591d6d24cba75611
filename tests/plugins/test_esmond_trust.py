"""What an archive says of the last write to a series spares requests, where it can be trusted."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pyarrow.dataset as ds
import pytest


def write(folder: Path, url: str) -> Path:
    path = folder / "p.toml"
    path.write_text(f"""
from = 2024-03-04
to = 2024-03-16
window = "1d"
[source]
type = "esmond"
url = "{url}"
trust_time_updated = true
[[sink]]
type = "parquet"
path = "{folder / "out"}"
""")
    return path


def etl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "esmond_etl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def rows(folder: Path) -> int:
    """How many datapoints there are."""
    return sum(ds.dataset(part, format="parquet").count_rows() for part in folder.glob("event_type=*"))


@pytest.mark.slow
def test_an_archive_that_is_trusted_is_not_asked_for_what_it_was_not_written(archive: Any, proxy: Any, tmp_path: Path) -> None:
    record = next(iter(esmond_etl_archive.sample(days=4, hosts=2)))
    esmond_etl_archive.load(archive.archive, [record])
    updated, asked = 1709510400 + 4 * 86400, list[str]()

    def meddle(request: Any, real: Any) -> Any:
        if not request.path.endswith("/archive/"):
            asked.append(request.path)
            return real
        entries = json.loads(real.body)
        for each in (event_type for entry in entries for event_type in entry["event-types"]):
            each["time-updated"] = updated if each["time-updated"] else None
        return real._replace(body=json.dumps(entries).encode())

    path = write(tmp_path, proxy(archive.url, meddle).url)
    assert etl("run", path, "--to", "2024-03-06").returncode == 0
    assert etl("run", path, "--to", "2024-03-12").returncode == 0
    written = {name for name, points in record["datapoints"].items() if points}
    before = rows(tmp_path / "out")
    assert before == sum(len(points) for points in record["datapoints"].values())
    assert {name.rsplit("/", 2)[1] for name in asked} == written, "what was never written is not asked for"
    asked.clear()
    assert etl("run", path).returncode == 0
    assert asked == []
    late = 1709510400 + 9 * 86400
    esmond_etl_archive.load(archive.archive, [{**record, "datapoints": {"throughput": [(late, 5)]}}])
    updated = late + 60
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "out") == before + 1
    assert etl("run", path, "--reload").returncode == 0
    assert any("failures" in name for name in asked), "with --reload, everything is"


def test_late_data_of_a_series_that_was_silent_are_found_however_old_they_are(archive: Any, proxy: Any, tmp_path: Path) -> None:
    record = next(iter(esmond_etl_archive.sample(days=2, hosts=2)))
    series = {**record, "datapoints": {"throughput": [(1709510400, 5)]}}
    esmond_etl_archive.load(archive.archive, [series])
    asked = list[str]()

    def note(request: Any, real: Any) -> Any:
        asked.append(request.path)
        return real

    path = write(tmp_path, proxy(archive.url, note).url)
    assert etl("run", path).returncode == 0
    with closing(sqlite3.connect(tmp_path / ".esmond-etl/p.ledger")) as db, db:  # as if it had run a day ago
        db.execute("update about set value = value - 86400 where name = 'read'")
    late = 1709510400 + 3600
    esmond_etl_archive.load(archive.archive, [{**record, "datapoints": {"throughput": [(late, 7)]}}])
    asked.clear()
    assert etl("run", path).returncode == 0
    assert rows(tmp_path / "out") == 2
    assert {name.rsplit("/", 2)[1] for name in asked if "/base" in name} == {"throughput"}, "the other series were not written to"
