"""A lost ledger: `rebuild` brings it back from sinks that remember what was delivered, and the next run reads little."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive import Running
from esmond_etl_archive.samples import START

import esmond_etl
from esmond_etl.cli.group import run as command
from esmond_etl.engine.ledger import Ledger
from esmond_etl.model.interval import Interval
from esmond_etl.testing import DAY

DAYS = 4
PARQUET = '[[sink]]\ntype = "parquet"\npath = "tree"\n'
DELTA = '[[sink]]\ntype = "delta"\npath = "lake"\n'
SQL = '[[sink]]\ntype = "sql"\nurl = "sqlite:out.db"\n'
#: A transform that makes other series of some.
OTHERS = '[[transform]]\ntype = "histogram_stats"\nevent_types = ["histogram-owdelay"]\nstatistic = "median"\n'


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = esmond_etl_archive.Archive(tmp_path_factory.mktemp("source") / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=DAYS, hosts=2))
    with esmond_etl_archive.serve(store) as running:
        yield running


def written(folder: Path, archive: Running, *stages: str) -> Path:
    path = folder / "p.toml"
    times = f'from = {START}\nto = {START + DAYS * DAY}\nlookback = "1d"\n'
    path.write_text(f'{times}[source]\ntype = "esmond"\nurl = "{archive.url}"\nsummaries = ["all"]\n' + "".join(stages))
    return path


def known(path: Path) -> dict[str, Any]:
    """What a ledger knows of each series: the time that is done, and the digests of all but the last day."""
    settled = Interval(START, START + (DAYS - 1) * DAY)
    with closing(Ledger.to_read(esmond_etl.load(path).definition.ledger_path)) as ledger:
        return {
            str(series): (intervals.within(settled), [window.content for window in ledger.digests(series, settled)])
            for series, intervals in ledger.all_done()
        }


def lost(path: Path) -> None:
    for file in path.parent.glob(".esmond-etl/*"):
        file.unlink()


@pytest.mark.parametrize("sinks", [(PARQUET,), (DELTA,), (DELTA, PARQUET), (OTHERS, PARQUET)], ids=str)
def test_what_was_delivered_is_known_again(tmp_path: Path, archive: Running, capsys: Any, sinks: tuple[str, ...]) -> None:
    path = written(tmp_path, archive, *sinks)
    whole = esmond_etl.load(path).run()
    assert whole.complete
    before = known(path)
    lost(path)
    assert command(["rebuild", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert known(path) == before
    assert said == {"pipeline": "p", "series": len(before), "datapoints": said["datapoints"], "partly": 0}
    assert 0.7 * whole.read < said["datapoints"] < whole.read
    again = esmond_etl.load(path).run()  # the last day may have late data
    assert (again.complete, again.read) == (True, whole.read - said["datapoints"])
    assert command(["verify", str(path), "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing"] == []
    assert all(each.same for each in esmond_etl.load(path).verify())


def test_what_only_some_of_the_sinks_remember_goes_to_the_others(tmp_path: Path, archive: Running, capsys: Any) -> None:
    path = written(tmp_path, archive, PARQUET, SQL)
    assert esmond_etl.load(path).run().complete
    lost(path)
    files = {each: each.stat().st_mtime_ns for each in tmp_path.glob("tree/event_type=*/**/*.parquet")}
    assert command(["rebuild", str(path)]) == 0
    assert "0 series with 0 datapoints are known again; " in capsys.readouterr().out
    assert esmond_etl.load(path).run().complete
    last = str(datetime.fromtimestamp(START + (DAYS - 1) * DAY, UTC).date())
    settled = {each for each in files if last not in str(each)}
    assert len(settled) > 10
    assert {each: each.stat().st_mtime_ns for each in settled} == {each: files[each] for each in settled}
    assert all(each.same for each in esmond_etl.load(path).verify())


def test_a_ledger_that_is_there_is_not_rebuilt(tmp_path: Path, archive: Running, capsys: Any) -> None:
    path = written(tmp_path, archive, PARQUET)
    assert esmond_etl.load(path).run().complete
    before = known(path)
    assert command(["rebuild", str(path)]) == 2
    assert "this ledger knows what was delivered: move it away if you do not trust it" in capsys.readouterr().err
    assert known(path) == before


def test_without_a_sink_that_remembers_nothing_can_be_rebuilt(tmp_path: Path, archive: Running, capsys: Any) -> None:
    path = written(tmp_path, archive, SQL)
    assert command(["rebuild", str(path)]) == 2
    assert f"{path}: no sink of this pipeline remembers what was delivered" in capsys.readouterr().err


def test_what_nobody_delivered_cannot_be_rebuilt(tmp_path: Path, archive: Running, capsys: Any) -> None:
    path = written(tmp_path, archive, PARQUET)
    assert command(["rebuild", str(path)]) == 2
    assert "its sinks do not say what was delivered: nothing was, or an older version delivered it" in capsys.readouterr().err
