"""`run --profile` says where the CPU time went."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import esmond_etl_archive
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
[[transform]]
type = "histogram_stats"
[[sink]]
type = "parquet"
path = "{folder / "out"}"
""")
    return path


def etl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "esmond_etl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_profile_says_where_the_time_of_the_process_went(archive: Any, tmp_path: Path) -> None:
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=4, hosts=2))
    path = write(tmp_path, archive.url)
    for more in ((), ("--executor", "processes", "--reload")):
        done = etl("run", path, "--profile", "--json", *more)
        spent = json.loads(done.stdout)["profile"]
        assert set(spent) == {
            "list", "plan", "fetch", "decode", "source", "transform[0] (HistogramStats)", "sink[0] (parquet)", "digest", "ledger", "other"
        }  # fmt: skip
        assert min(spent["list"], spent["fetch"], spent["decode"], spent["sink[0] (parquet)"]) > 0
    table = etl("run", path, "--profile", "--reload").stderr
    assert [line.split()[0] for line in table.splitlines()][-1] == "all"
    assert "sink[0] (parquet)" in table
    assert "profile" not in json.loads(etl("run", path, "--json").stdout)
