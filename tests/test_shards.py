"""Parts of a pipeline on several hosts: each series is delivered by one of them, also when their number changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START

import esmond_etl
from esmond_etl.cli.group import run
from esmond_etl.pipeline.definition import Shard

DAY = 86400


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Any]:
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=3))
    with esmond_etl_archive.serve(store) as running:
        yield running


@pytest.fixture
def pipeline(source: Any, tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(
        f'name = "p"\nfrom = {START}\nto = {START + 3 * DAY}\n[source]\ntype = "esmond"\nurl = "{source.url}"\n'
        '[[sink]]\ntype = "sql"\nurl = "sqlite:out.db"\n'
    )
    return path


def read(path: Path, shard: str) -> int:
    """How many datapoints a run of one shard reads."""
    command = [sys.executable, "-m", "esmond_etl", "run", str(path), "--shard", shard, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["read"])


def test_each_metadata_is_in_one_shard_alone() -> None:
    keys = [f"{number:032x}" for number in range(1000)]
    counts = Counter(number for number in range(1, 8) for key in keys if Shard(number, 7).has(key))
    assert sum(counts.values()) == 1000
    assert min(counts.values()) > 90


@pytest.mark.slow
def test_shards_deliver_everything_once_also_when_their_number_changes(
    pipeline: Path, source: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = esmond_etl.load(pipeline)
    total = sum(len(points) for series in esmond_etl.load(pipeline).preview(points=10**6, series=10**6) for points in [[series]])
    first = [read(pipeline, "1/3"), read(pipeline, "3/3")]
    assert all(first)
    rest = [read(pipeline, f"{number}/4") for number in range(1, 5)]
    assert sum(first) + sum(rest) == total
    assert [read(pipeline, f"{number}/2") for number in (1, 2)] == [0, 0]
    assert definition.run().read == 0
    assert all(each.same for each in definition.verify())
    assert run(["verify", str(pipeline), "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal"] == total
    assert run(["status", str(pipeline), "--json"]) == 0
    assert all(row["done_to"] for row in json.loads(capsys.readouterr().out)["series"])


def test_a_shard_that_cannot_be_one_is_refused(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0/3", "4/3", "1", "a/b"):
        assert run(["run", str(pipeline), "--shard", wrong]) == 2
        assert "write 3/8 for the third of eight" in " ".join(capsys.readouterr().err.split())
