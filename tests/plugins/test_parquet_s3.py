"""Trees that an older version wrote to an object store: they are read, and nothing is written to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from esmond_etl_parquet.sink import ParquetSink
from esmond_etl_parquet.source import ParquetSource

from esmond_etl import Context, Interval, Source, SourceError
from esmond_etl.cli.group import run as command
from esmond_etl.testing import DAY, START, Points, SourceSuite, deliver, series

pytestmark = pytest.mark.slow

DAYS = Interval(START, START + 2 * DAY)

HELD: Mapping[str, Points] = {
    f"{key}/{name}/base": [(ts, 1.5 if name == "throughput" else {"1": 2}) for ts in range(*DAYS, 3600)]
    for key in ("k1", "k2")
    for name in ("throughput", "histogram-owdelay")
}


@pytest.fixture
def tree(s3: str, tmp_path: Path) -> str:
    """The URL of a tree in an object store."""
    sink = ParquetSink(path=str(tmp_path / "tree"))
    sink.open(Context())
    try:
        deliver(sink, {series(name.split("/")[1], key=name.split("/")[0]): points for name, points in HELD.items()}, DAYS)
    finally:
        sink.close()
    fs, root = pafs.FileSystem.from_uri(s3)
    pafs.copy_files(str(tmp_path / "tree"), root, destination_filesystem=fs)
    return s3


class TestSourceInS3(SourceSuite):
    interval = DAYS

    @pytest.fixture(autouse=True)
    def exported(self, tree: str) -> None:
        self.url = tree

    def source(self, tmp_path: Path) -> Source:
        return ParquetSource(path=self.url)

    def expected(self) -> Mapping[str, Points]:
        return HELD


def test_an_interrupted_commit_is_said(tree: str) -> None:
    fs, root = pafs.FileSystem.from_uri(tree)
    with fs.open_output_stream(f"{root}/_staging/host-1-2.journal") as stream:
        stream.write(b"[]")
    with pytest.raises(SourceError, match="only the version of esmond-etl that began it can finish it") as raised:
        ParquetSource(path=tree).open(Context())
    assert "secret" not in str(raised.value)


def test_a_sink_says_what_to_use_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    sink = '[[sink]]\ntype = "parquet"\npath = "s3://me:hidden@bucket/out"\n'
    path.write_text(f'from = 2014-01-01\n[source]\ntype = "esmond"\nurl = "http://127.0.0.1:9"\n{sink}')
    assert command(["check", str(path)]) == 2
    said = capsys.readouterr().out
    assert f'{path}:7:1: sink[0].path: files are written into folders alone: for an object store, use the sink "delta"' in said
    assert "hidden" not in said
