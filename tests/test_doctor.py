"""`check --data`: twenty planted faults are found, with their series and their time, and none where nothing was planted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START, sample

from esmond_etl import Interval
from esmond_etl.cli.group import run as command
from esmond_etl.doctor.examine import examine
from esmond_etl.doctor.steps import steps
from esmond_etl.testing import RecordedSource, series

DAY = 86400
DAYS = 6
END = START + DAYS * DAY
NOON = START + 2 * DAY + 43200  #: before the sample's paths change

Record = dict[str, Any]


class Planted(NamedTuple):
    """A fault: what kind it is, in which series, and when."""

    kind: str
    host: str  #: the destination
    event_type: str
    start: int


def host(number: int) -> str:
    return f"203.0.113.{100 + number}"


def delays(number: int, source: str = "203.0.113.99", destination: str = "", level: float = 12.0) -> Record:
    """Six days of one-way delay to a host, every ten minutes, and the counts that go with it."""
    ends = {"source": source, "destination": destination or host(number), "measurement-agent": source}
    names = ("histogram-owdelay", "packet-count-sent", "packet-count-lost", "packet-loss-rate", "time-error-estimates")
    more = {"subject-type": "point-to-point", "tool-name": "pscheduler/powstream", "sample-bucket-width": "0.001"}
    points: dict[str, list[tuple[int, Any]]] = {name: [] for name in names}
    for index, ts in enumerate(range(START + 7 * number, END, 600)):
        delay = level + 0.1 * (index * number % 7)
        points["histogram-owdelay"].append((ts, {f"{delay:.1f}": 590, f"{delay + 0.3:.1f}": 10 - index % 2}))
        points["packet-count-sent"].append((ts, 600))
        points["packet-count-lost"].append((ts, index % 2))
        points["packet-loss-rate"].append((ts, {"numerator": index % 2, "denominator": 600}))
        points["time-error-estimates"].append((ts, 0.2))
    return {"metadata": {**ends, **more, "event-types": [{"event-type": name} for name in names]}, "datapoints": points}


def throughput(number: int, start: int = START, end: int = END, **more: Any) -> Record:
    """Throughput to a host, every two hours."""
    ends = {"source": "203.0.113.99", "destination": host(number), "measurement-agent": "203.0.113.99"}
    about = {"subject-type": "point-to-point", "tool-name": "pscheduler/iperf3", "event-types": [{"event-type": "throughput"}]}
    points = [(ts, 9_000_000_000 + ts * 7919 % 1_000_003) for ts in range(start + number, end, 7200)]
    return {"metadata": {**ends, **about, **more}, "datapoints": {"throughput": points}}


def change(record: Record, name: str, how: Callable[[int, Any], Any], start: int, end: int = END) -> Record:
    """The record with other values of one event type from `start` to `end`; None removes them."""
    points = [(ts, how(ts, val) if start <= ts < end else val) for ts, val in record["datapoints"][name]]
    record["datapoints"][name] = [(ts, val) for ts, val in points if val is not None]
    return record


def shifted(by: float, times: float = 1) -> Callable[[int, Any], Any]:
    return lambda _, histogram: {f"{float(bucket) * times + by:.1f}": count for bucket, count in histogram.items()}


def first(record: Record, start: int, name: str) -> int:
    """The first datapoint from `start` on."""
    return int(next(ts for ts, _ in record["datapoints"][name] if ts >= start))


def plant() -> tuple[list[Record], list[Planted]]:
    """Records, and the twenty faults that are in them."""
    hour, records, planted = 3600, [], []

    def fault(kind: str, record: Record, name: str, start: int) -> None:
        records.append(record)
        planted.append(Planted(kind, record["metadata"]["destination"], name, first(record, start, name)))

    fault(
        "clock-error", change(delays(1), "time-error-estimates", lambda *_: 25.0, NOON, NOON + hour), "time-error-estimates", NOON
    )
    fault("clock-error", change(delays(2), "time-error-estimates", lambda *_: 12.9, NOON), "time-error-estimates", NOON)
    fault("negative-delay", change(delays(3), "histogram-owdelay", shifted(-14), NOON, NOON + hour), "histogram-owdelay", NOON)
    fault("negative-delay", change(delays(4), "histogram-owdelay", shifted(-12.7), NOON, NOON + 600), "histogram-owdelay", NOON)
    fault("bucket-width", change(delays(5), "histogram-owdelay", shifted(0, 10), NOON), "histogram-owdelay", NOON)
    fault("bucket-width", change(delays(6), "histogram-owdelay", shifted(0, 0.1), NOON), "histogram-owdelay", NOON)
    fault("bucket-width", change(delays(7), "histogram-owdelay", shifted(0, 1000), NOON, NOON + DAY), "histogram-owdelay", NOON)
    rate = {"numerator": 700, "denominator": 600}
    fault("impossible-loss", change(delays(8), "packet-loss-rate", lambda *_: rate, NOON, NOON + 600), "packet-loss-rate", NOON)
    fault("impossible-loss", change(delays(9), "packet-count-lost", lambda *_: 601, NOON, NOON + 600), "packet-count-lost", NOON)
    twice = {"numerator": 60, "denominator": 600}
    fault("loss-mismatch", change(delays(10), "packet-loss-rate", lambda *_: twice, NOON, NOON + hour), "packet-loss-rate", NOON)
    more = change(delays(11), "histogram-owdelay", lambda _, val: {**val, "40": 3}, NOON, NOON + 600)
    fault("count-mismatch", more, "histogram-owdelay", NOON)
    fewer = change(delays(12), "histogram-owdelay", lambda _, val: dict(list(val.items())[:1]), NOON, NOON + hour)
    fault("count-mismatch", fewer, "histogram-owdelay", NOON)
    quiet = throughput(13, end=NOON)
    fault("silent", quiet, "throughput", quiet["datapoints"]["throughput"][-1][0])
    still = delays(14)
    for name in list(still["datapoints"]):
        change(still, name, lambda *_: None, NOON)
    fault("silent", still, "histogram-owdelay", still["datapoints"]["histogram-owdelay"][-1][0])
    there, back = delays(15), delays(16, source=host(15), destination="203.0.113.99", level=20.0)
    records.append(change(back, "histogram-owdelay", shifted(-8), NOON))
    fault("clock-jump", change(there, "histogram-owdelay", shifted(8), NOON), "histogram-owdelay", NOON)
    there, back = delays(17), delays(18, source=host(17), destination="203.0.113.99", level=50.0)
    records.append(change(back, "histogram-owdelay", shifted(31), NOON, NOON + DAY))
    fault("clock-jump", change(there, "histogram-owdelay", shifted(-31), NOON, NOON + DAY), "histogram-owdelay", NOON)
    again = {**throughput(19), "metadata": {**throughput(19)["metadata"], "measurement-agent": "203.0.113.98"}}
    records.append(again)
    fault("doubled", throughput(19), "throughput", START)
    soon = int(time.time()) + 5 * DAY
    ahead = throughput(20)
    ahead["datapoints"]["throughput"].append((soon, 9e9))
    fault("future", ahead, "throughput", soon)
    records.append(throughput(21, end=NOON, **{"time-duration": 10}))
    fault("changed-key", throughput(21, start=NOON, **{"time-duration": 30}), "throughput", NOON)
    records.append(change(delays(22), "histogram-owdelay", lambda *_: None, START))
    fault("negative-number", change(throughput(23), "throughput", lambda *_: -1, NOON, NOON + 7200), "throughput", NOON)
    return records, planted


Check = Callable[[list[Record]], tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def check(archive: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """What `check --data` ends with, and what it finds, in an archive of some records."""

    def checked(records: list[Record]) -> tuple[int, list[dict[str, Any]]]:
        esmond_etl_archive.load(archive.archive, records)
        path = tmp_path / "p.toml"
        path.write_text(
            f'from = {START}\n[source]\ntype = "esmond"\nurl = "{archive.url}"\n[[sink]]\ntype = "parquet"\npath = "out"\n'
        )
        code = command(["check", "--data", "--json", str(path)])
        assert not (tmp_path / "out").exists()
        return code, json.loads(capsys.readouterr().out)["data"][str(path)]

    return checked


def _far_end(found: dict[str, Any]) -> str:
    """The host that only this fault is about."""
    return str(found["source"] if found["destination"] == "203.0.113.99" else found["destination"])


@pytest.mark.slow
def test_twenty_planted_faults_are_found_and_nothing_else(check: Check) -> None:
    records, planted = plant()
    assert len(planted) == 20
    code, found = check(records)
    shown = [(each["kind"], _far_end(each), each["series"].split("/")[1], each["from"]) for each in found]
    missed = [fault for fault in planted if not any(_is(fault, *each) for each in shown)]
    assert (code, missed) == (1, [])
    # a rate that is above 1, or a count above what was sent, contradicts its neighbours as well
    known = {
        *planted,
        *(fault._replace(kind=kind) for fault in planted for kind in ("loss-mismatch", "count-mismatch", "negative-delay")),
    }
    extra = [each for each in shown if not any((fault.kind, fault.host) == each[:2] for fault in known)]
    assert extra == []


def _is(fault: Planted, kind: str, destination: str, event_type: str, start: str) -> bool:
    from datetime import datetime

    begins = datetime.fromisoformat(start).timestamp()
    near = 0 if fault.kind not in ("bucket-width", "clock-jump", "doubled") else 3 * 600
    return (kind, destination, event_type) == fault[:3] and abs(begins - fault.start) <= near


@pytest.mark.slow
def test_nothing_is_found_in_clean_measurements(check: Check) -> None:
    clean = [*sample(days=DAYS), *(delays(number) for number in range(1, 5)), *(throughput(number) for number in range(5, 9))]
    assert check(clean) == (0, [])


def test_it_says_what_was_found_and_what_it_means(archive: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = change(delays(1), "histogram-owdelay", shifted(-14), NOON, NOON + 3600)
    esmond_etl_archive.load(archive.archive, [broken])
    path = tmp_path / "p.toml"
    path.write_text(f'from = {START}\n[source]\ntype = "esmond"\nurl = "{archive.url}"\n[[sink]]\ntype = "parquet"\npath = "out"\n')
    assert command(["check", "--data", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "data: negative-delay, 1 found. No packet arrives before it was sent: the clocks of the two hosts disagree." in printed
    assert "  203.0.113.99 to 203.0.113.101, histogram-owdelay (" in printed
    assert "), 2024-03-06T12:00:07Z to 2024-03-06T12:50:07Z: delays down to -2 ms" in printed


def test_equal_times_and_series_that_cannot_be_read_are_findings() -> None:
    whole, broken, twice = (series("throughput", key=key) for key in "abc")
    points = [(START + each * 600, float(each)) for each in range(20)]
    recorded = {whole: [points], broken: [points], twice: [[*points[:5], points[4], *points[5:]]]}
    source = RecordedSource(recorded=recorded, failures={broken: 0})
    found = {(each.kind, each.series.metadata.key): each for each in examine(source, Interval(START, END), int(time.time()), 2)}
    assert found["unreadable", "b"].evidence.endswith("told to fail after 0 pages")
    assert (found["doubled", "c"].count, found["doubled", "c"].start) == (1, points[4][0])


def test_a_step_is_found_where_it_is_and_noise_is_none() -> None:
    moments = list(range(0, 6000, 60))
    noise = [10 + 0.2 * (each * 7919 % 13) / 13 for each in range(100)]
    assert steps(moments, noise) == []
    stepped = [value + (5 if index >= 40 else 0) for index, value in enumerate(noise)]
    (found,) = steps(moments, stepped)
    assert abs(found.ts - 40 * 60) <= 60
    assert abs(found.change - 5) < 0.2
    spike = [*noise]
    spike[50] = 90.0
    assert steps(moments, spike) == []
