"""`plan --estimate` says what a run then does, within a tenth."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl.cli.group import run as command
from esmond_etl.engine.estimate import spread

START, DAY = 1388534400, 86400  # 2014-01-01

Told = tuple[dict[str, Any], dict[str, Any]]  #: what the plan said, and what the run did


def measured(number: int, every: int, days: int, event_type: str = "throughput", first: int = START) -> dict[str, Any]:
    """A test that measures every so many seconds."""
    metadata = {
        "subject-type": "point-to-point",
        "source": f"192.0.2.{number}",
        "destination": "198.51.100.1",
        "measurement-agent": f"192.0.2.{number}",
        "tool-name": "test",
        "event-types": [{"event-type": event_type}],
    }
    value: Any = {"10": 5, "11": 1} if event_type.startswith("histogram") else 7
    return {"metadata": metadata, "datapoints": {event_type: [[ts, value] for ts in range(first, first + days * DAY, every)]}}


@pytest.fixture
def tell(archive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Plans, runs, and returns what either says."""
    monkeypatch.chdir(tmp_path)

    def told(records: list[dict[str, Any]], to: int, settings: str = "", source: str = "") -> Told:
        if records:
            esmond_etl_archive.load(archive.archive, records)
        Path("p.toml").write_text(f"""
            from = {START}
            to = {to}
            {settings}
            [source]
            type = "esmond"
            url = "{archive.url}"
            {source}
            [[sink]]
            type = "parquet"
            path = "out"
        """)
        capsys.readouterr()
        assert command(["plan", "p.toml", "--estimate", "--json"]) == 0
        planned = json.loads(capsys.readouterr().out)
        assert command(["run", "p.toml", "--json"]) == 0
        return planned, json.loads(capsys.readouterr().out)

    return told


def check(told: Told) -> None:
    planned, ran = told
    requests = planned["list_requests"] + sum(row["requests"] for row in planned["series"])
    assert sum(row["datapoints"] for row in planned["series"]) == pytest.approx(ran["read"], rel=0.1)
    assert requests == pytest.approx(ran["requests"], rel=0.1, abs=1)


@pytest.mark.slow
def test_pages_of_long_series_are_counted(tell: Callable[..., Told]) -> None:
    minute = [measured(number, 60, 60) for number in range(1, 4)]
    check(tell([*minute, measured(9, 21600, 60), measured(10, 600, 60, "histogram-owdelay")], START + 60 * DAY))


@pytest.mark.slow
def test_small_pages_and_windows(tell: Callable[..., Told]) -> None:
    records = [measured(number, 300 * number, 20) for number in range(1, 5)]
    check(tell(records, START + 20 * DAY, 'window = "1h"\nparallel = 2', "page = 700"))


@pytest.mark.slow
def test_the_time_before_the_first_datapoint_is_left_out(tell: Callable[..., Told]) -> None:
    check(tell([measured(1, 300, 30, first=START + 300 * DAY)], START + 330 * DAY))


@pytest.mark.slow
def test_what_is_done_is_not_counted(tell: Callable[..., Told]) -> None:
    records = [measured(number, 600, 30) for number in range(1, 4)]
    tell(records, START + 20 * DAY)
    planned, ran = tell([], START + 30 * DAY)
    check((planned, ran))
    assert sum(row["windows"] for row in planned["series"]) == 30


def test_nothing_left_is_nothing(tell: Callable[..., Told], capsys: pytest.CaptureFixture[str]) -> None:
    tell([measured(1, 3600, 3)], START + 3 * DAY)
    planned, ran = tell([], START + 3 * DAY)
    assert (planned["series"], planned["sample_reads"], ran["read"]) == ([], 0, 0)
    assert command(["plan", "p.toml", "--estimate"]) == 0
    assert "about 0 datapoints in about 1 requests to the source" in " ".join(capsys.readouterr().out.split())


def test_without_the_option_nothing_but_the_list_is_read(archive: Any, proxy: Any, tmp_path: Path) -> None:
    esmond_etl_archive.load(archive.archive, [measured(1, 3600, 3)])
    asked = list[str]()

    def note(request: Any, real: Any) -> Any:
        asked.append(request.path)
        return real

    file = tmp_path / "p.toml"
    sink = f'[[sink]]\ntype = "parquet"\npath = "{tmp_path / "out"}"\n'
    url = proxy(archive.url, note).url
    file.write_text(f'from = {START}\nto = {START + 3 * DAY}\n[source]\ntype = "esmond"\nurl = "{url}"\n{sink}')
    assert command(["plan", str(file)]) == 0
    assert {path.rstrip("/").rpartition("/")[2] for path in asked} == {"archive"}
    assert command(["plan", str(file), "--estimate"]) == 0
    assert {path.rstrip("/").rpartition("/")[2] for path in asked} == {"archive", "base"}
    assert not (tmp_path / "out").exists()


@given(st.lists(st.integers(), max_size=40), st.integers(1, 10))
def test_a_sample_is_spread_over_all(items: list[int], most: int) -> None:
    found = spread(list(enumerate(items)), most)
    places = [place for place, _ in found]
    assert len(found) == min(len(items), most)
    assert places == sorted(set(places))
    ends = [-1, *places, len(items)]
    assert all(later - earlier <= 2 * len(items) // max(1, len(found)) + 1 for earlier, later in pairwise(ends))


def test_measurements_that_begin_later_and_end_earlier_are_counted(tell: Callable[..., Told]) -> None:
    records = [measured(number, 60, 9 + number, first=START + (4 + number) * DAY) for number in range(1, 5)]
    check(tell([*records, measured(9, 3600, 20)], START + 21 * DAY))
    check(tell([], START + 40 * DAY))
