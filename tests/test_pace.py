"""Rates that change by the time of the day."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_esmond.source import EsmondSource

from esmond_etl.cli.group import run as command
from esmond_etl.client.archive import Archive
from esmond_etl.client.pace import Pace, Rate, shared

HOUR = 3600


@pytest.mark.parametrize(
    ("hour", "interval"),
    [(0, 0.1), (7.99, 0.1), (8, 0.5), (17.5, 0.5), (18, 0.0), (22.49, 0.0), (22.5, 0.1), (24, 0.1), (24 * 365 + 8, 0.5)],
)
def test_the_rate_of_a_moment_is_that_of_the_last_change(hour: float, interval: float) -> None:
    assert Rate(["08:00 2", "18:00 unlimited", "22:30 10"]).interval(hour * HOUR) == interval


def test_a_number_holds_all_day_and_none_is_no_limit() -> None:
    assert [Rate(rate).interval(hour * HOUR) for rate in (4, None) for hour in (0, 12)] == [0.25, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("rate", [["8:00 2"], ["24:00 2"], ["08:00 0"], ["08:00 -1"], ["08:00 fast"], ["09:00 1", "08:00 2"], []])
def test_what_is_no_rate_is_said_to_be_so(rate: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is not a rate|in ascending order"):
        Rate(rate)


def test_a_wrong_rate_is_named_by_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        'from = 2014-01-01\n[source]\ntype = "esmond"\nurl = "https://a.example.net/"\nrate = ["08:00 2", "8pm 9"]\n'
        '[[sink]]\ntype = "parquet"\npath = "out"\n'
    )
    assert command(["check", str(path)]) == 2
    assert "p.toml:5:1: source.rate: '8pm 9' is not a rate: write a time of the day (UTC)" in capsys.readouterr().out


def test_workers_share_the_rates() -> None:
    assert [shared(rate, 4) for rate in (2, None, ["08:00 2", "18:00 unlimited"])] == [
        0.5,
        None,
        ["08:00 0.500000", "18:00 unlimited"],
    ]
    source = EsmondSource(url="https://a.example.net/", rate=["08:00 2", "18:00 unlimited"])
    assert source.share(2).rate == ["08:00 1.000000", "18:00 unlimited"]


def test_requests_keep_to_the_rate_of_the_hour(serve: Any, answer: Any) -> None:
    client = Archive(serve(lambda asked: answer(200, b"[]")).url, rate=["00:00 20"])
    began = time.monotonic()
    for _ in range(5):
        client.get(client.list_url, {}, len)
    assert time.monotonic() - began >= 4 / 20


def test_without_a_limit_nothing_waits() -> None:
    pace, began = Pace(Rate(["00:00 unlimited"])), time.monotonic()
    for _ in range(1000):
        pace.wait(threading.Event())
    assert time.monotonic() - began < 1
