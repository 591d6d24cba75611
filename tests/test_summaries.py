"""`verify --summaries`: what a mirror has made of its datapoints against the summaries of the source."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START, sample

from esmond_etl.cli.group import run as command
from esmond_etl.engine.summaries import GONE, GUESSED, OWN

pytestmark = pytest.mark.slow

DAY = 86400

Verify = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def mirrored(tmp_path: Path, archive: Any, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Verify]]:
    """Fills the archive, mirrors it, and returns what compares the summaries, in JSON."""
    with esmond_etl_archive.serve(tmp_path / "target.db", token="t") as target:

        def mirror(*records: dict[str, Any]) -> Verify:
            esmond_etl_archive.load(archive.archive, records)
            path = tmp_path / "m.toml"
            path.write_text(
                f'from = {START}\nto = {START + 2 * DAY}\n[source]\ntype = "esmond"\nurl = "{archive.url}"\n'
                f'[[sink]]\ntype = "esmond"\nurl = "{target.url}"\nusername = "m"\napi_key = "${{MIRROR_KEY}}"\n'
            )
            assert command(["run", str(path), "--quiet"]) == 0
            capsys.readouterr()

            def verify(*options: str) -> tuple[int, dict[str, Any]]:
                code = command(["verify", str(path), "--summaries", "--json", *options])
                return code, json.loads(capsys.readouterr().out)

            return verify

        yield mirror


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_KEY", "t")


def change(file: Path, event_type: str, summary: str, statement: str) -> None:
    """Change datapoints of one event type and kind of summary in an archive's file, as its administrator could."""
    with closing(sqlite3.connect(file, timeout=30)) as db, db:
        chosen = "series in (select id from series where event_type = ? and summary_type = ? and summary_window in (0, 86400))"
        assert db.execute(f"{statement} where {chosen}", (event_type, summary)).rowcount > 0


def delays(days: int = 2) -> list[dict[str, Any]]:
    return list(sample(days=days, hosts=2))


def rates() -> dict[str, Any]:
    """Loss rates without the counts that they come from."""
    ends = {"source": "192.0.2.1", "destination": "192.0.2.2", "measurement-agent": "192.0.2.1", "tool-name": "bwctl/ping"}
    summaries = [{"summary-type": "aggregation", "summary-window": DAY}]
    types = [{"event-type": "packet-loss-rate", "summaries": summaries}]
    points = [(START + hour * 3600, {"numerator": hour % 3, "denominator": 100 * (hour % 2 + 1)}) for hour in range(48)]
    return {
        "metadata": {"subject-type": "point-to-point", **ends, "event-types": types},
        "datapoints": {"packet-loss-rate": points},
    }


def test_the_summaries_of_a_mirror_are_those_of_its_source(mirrored: Callable[..., Verify]) -> None:
    code, facts = mirrored(*delays())()
    assert (code, facts["differing"], facts["explained"], facts["depth"]) == (0, [], {}, "summaries")
    assert facts["equal"] > 500


@pytest.mark.parametrize(
    ("event_type", "summary", "value"),
    [
        ("throughput", "average", "1.0"),
        ("packet-count-sent", "aggregation", "1"),
        ("histogram-owdelay", "aggregation", '{"1": 2}'),
        ("packet-loss-rate", "aggregation", "0.5"),
    ],
)
def test_a_summary_that_went_wrong_is_found(
    mirrored: Callable[..., Verify], tmp_path: Path, event_type: str, summary: str, value: str
) -> None:
    verify = mirrored(*delays())
    change(tmp_path / "target.db", event_type, summary, f"""update datapoint set json = '{{"ts":' || ts || ',"val":{value}}}'""")
    code, facts = verify()
    assert (code, facts["explained"]) == (1, {})
    assert {each["series"].split("/", 1)[1] for each in facts["differing"]} == {f"{event_type}/{summary}/{DAY}"}
    assert all(each["different"] == 2 for each in facts["differing"])


@pytest.mark.parametrize(
    ("event_type", "summary", "value"),
    [
        ("throughput", "average", "1.0"),
        ("packet-count-lost", "aggregation", "77"),
        ("histogram-owdelay", "aggregation", '{"1": 2}'),
        ("histogram-owdelay", "statistics", '{"mean": 2}'),
        ("packet-loss-rate", "aggregation", "0.5"),
    ],
)
def test_where_the_source_itself_is_wrong_the_base_data_decide(
    mirrored: Callable[..., Verify], tmp_path: Path, event_type: str, summary: str, value: str
) -> None:
    verify = mirrored(*delays())
    change(tmp_path / "archive.db", event_type, summary, f"""update datapoint set json = '{{"ts":' || ts || ',"val":{value}}}'""")
    code, facts = verify()
    assert (code, facts["differing"], list(facts["explained"])) == (0, [], [OWN])


def test_what_cannot_be_told_is_said_to_be_so(
    mirrored: Callable[..., Verify], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = mirrored(rates())()
    assert (code, facts["differing"], facts["explained"]) == (0, [], {GUESSED: 2})
    assert command(["verify", str(tmp_path / "m.toml"), "--summaries"]) == 0
    assert "m: 2 summaries differ for a known reason: percentages without counts" in capsys.readouterr().out


def test_summaries_whose_base_data_are_gone_cannot_have_been_made(
    mirrored: Callable[..., Verify], tmp_path: Path, archive: Any
) -> None:
    esmond_etl_archive.load(archive.archive, delays())
    change(tmp_path / "archive.db", "throughput", "base", "delete from datapoint")
    code, facts = mirrored()()
    assert (code, facts["differing"], list(facts["explained"])) == (0, [], [GONE])


def test_a_pipeline_without_summaries_and_options_that_do_not_fit_are_refused(
    tmp_path: Path, archive: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f'from = {START}\n[source]\ntype = "esmond"\nurl = "{archive.url}"\n[[sink]]\ntype = "parquet"\npath = "out"\n')
    assert command(["verify", str(path), "--summaries"]) == 2
    assert "no sink of p makes summaries" in capsys.readouterr().err
    assert command(["verify", str(path), "--summaries", "--quick"]) == 2
    assert not (tmp_path / "out").exists()
