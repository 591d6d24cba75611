"""Dashboards for Grafana: every query of them is sent to a real server that holds the sample's measurements."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import uuid4

import esmond_etl_archive
import pytest
import requests
from esmond_etl_archive.samples import START

from esmond_etl.cli.group import run as command

DAY = 86400
TIME = f"time >= {START}s AND time < {START + 2 * DAY}s"

Lines = dict[tuple[str, str], list[float]]  #: (source, destination) -> values, oldest first

RTT = {
    "metadata": {
        "subject-type": "point-to-point",
        "source": "192.0.2.1",
        "destination": "192.0.2.2",
        "measurement-agent": "192.0.2.1",
        "tool-name": "ping",
        "event-types": [{"event-type": "histogram-rtt"}],
    },
    "datapoints": {"histogram-rtt": [[START + 600 * each, {"1.5": 9, "2.5": 1}] for each in range(10)]},
}


def board(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert command(["dashboard", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def targets(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each query, with the title of its panel."""
    for panel in found["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return [*esmond_etl_archive.sample(days=2, hosts=2), RTT]


@pytest.fixture
def deliver(archive: Any, records: list[dict[str, Any]], tmp_path: Path) -> Any:
    """Delivers the sample to an InfluxDB, and returns the prefix of its measurements."""

    def delivered(url: str, where: str) -> str:
        esmond_etl_archive.load(archive.archive, records)
        prefix = f"x{uuid4().hex}_"
        (tmp_path / "p.toml").write_text(f"""
            from = {START}
            to = {START + 2 * DAY}
            [source]
            type = "esmond"
            url = "{archive.url}"
            [[sink]]
            type = "influxdb"
            url = "{url}"
            {where}
            prefix = "{prefix}"
        """)
        assert command(["run", str(tmp_path / "p.toml")]) == 0
        return prefix

    return delivered


def pair(record: dict[str, Any]) -> tuple[str, str]:
    return record["metadata"]["source"], record["metadata"].get("destination", "")


def daily(records: list[dict[str, Any]], event_type: str, how: Any) -> Lines:
    """What stands for each day, made from the records."""
    found: Lines = {}
    for record in records:
        points = record["datapoints"].get(event_type, ())
        days = [[val for ts, val in points if ts // DAY == day] for day in sorted({ts // DAY for ts, _ in points})]
        if days:
            found[pair(record)] = [how(day) for day in days]
    return found


def check(found: dict[str, list[Lines]], records: list[dict[str, Any]]) -> None:
    """Compare what the queries of each panel found with the records, where the number is easily made of them."""
    assert all(lines and all(lines) for lines in found.values()), "every query finds something"
    ratio = lambda day: fmean(each["numerator"] / each["denominator"] for each in day)  # noqa: E731
    expected = {
        "Throughput": [daily(records, "throughput", fmean)],
        "Packet loss": [daily(records, "packet-loss-rate", ratio)],
        "Path length": [daily(records, "packet-trace", lambda day: max(hop["ttl"] for trace in day for hop in trace))],
        "Coverage": [daily(records, name, len) for name in ("throughput", "packet-loss-rate", "histogram-owdelay", "packet-trace")],
    }
    for title, lines in expected.items():
        for one, other in zip(found[title], lines, strict=True):
            assert one.keys() == other.keys(), title
            assert all(one[hosts] == pytest.approx(other[hosts], rel=1e-6) for hosts in one), title
    [median, p95] = found["Round-trip time"]
    assert median == {("192.0.2.1", "192.0.2.2"): [1.5]}
    assert p95["192.0.2.1", "192.0.2.2"] == [pytest.approx(2.5, rel=0.2)]


@pytest.mark.slow
def test_every_query_for_influxdb_1_finds_what_was_measured(
    influxdb: str, influxd: str, deliver: Any, records: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = deliver(influxdb, 'database = "perfsonar"')
    capsys.readouterr()

    def ask(query: str) -> list[dict[str, Any]]:
        text = query.replace("${source:regex}", ".*").replace("${destination:regex}", ".*")
        text = text.replace("$timeFilter", TIME).replace("$__interval", "1d")
        answer = requests.get(f"{influxd}/query", params={"db": "perfsonar", "epoch": "s", "q": text}, timeout=30).json()
        assert "error" not in answer["results"][0], text
        series: list[dict[str, Any]] = answer["results"][0].get("series", [])
        return series

    made = board(capsys, "influxdb1", "--prefix", prefix)
    found: dict[str, list[Lines]] = {}
    for title, target in targets(made):
        lines = {
            (each["tags"]["source"], each["tags"]["destination"]): [value for _, value in each["values"]]
            for each in ask(target["query"])
        }
        found.setdefault(title, []).append(lines)
    check(found, records)
    paths = daily(records, "packet-trace", lambda day: len({json.dumps([hop.get("ip") for hop in trace]) for trace in day}) - 1)
    assert found["Path changes"] == [paths]
    queries = {each["name"]: each["query"] for each in made["templating"]["list"] if each["type"] == "query"}
    hosts = {value for each in ask(queries["source"]) for _, value in each["values"]}
    assert hosts >= {pair(record)[0] for record in records}


@pytest.mark.slow
def test_every_query_for_victoriametrics_finds_what_was_measured(
    victoria: str, deliver: Any, records: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = deliver(victoria, 'bucket = "any"')
    capsys.readouterr()
    requests.get(f"{victoria}/internal/force_flush", timeout=30).raise_for_status()
    found: dict[str, list[Lines]] = {}
    for title, target in targets(board(capsys, "victoriametrics", "--prefix", prefix)):
        text = target["expr"].replace("$source", ".*").replace("$destination", ".*").replace("$__interval", "1d")
        found.setdefault(title, []).append(asked(victoria, text))
    check(found, records)


def asked(victoria: str, text: str) -> Lines:
    """What VictoriaMetrics finds for the two days: it counts a day from its end, and its end belongs to it."""
    params: dict[str, Any] = {"query": text, "start": START + DAY - 1, "end": START + 2 * DAY - 1, "step": "1d", "nocache": "1"}
    answer = requests.get(f"{victoria}/api/v1/query_range", params=params, timeout=30).json()
    assert answer["status"] == "success", text
    return {
        (each["metric"].get("source", ""), each["metric"].get("destination", "")): [float(value) for _, value in each["values"]]
        for each in answer["data"]["result"]
    }


def test_the_dashboards_name_all_that_they_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    """No server with Flux can be had here: of these queries, their text is looked at."""
    made = board(capsys, "influxdb", "--bucket", 'a"b', "--prefix", "perf_")
    for title, target in targets(made):
        query = target["query"]
        assert query.startswith('from(bucket: "a\\"b")\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n'), title
        assert re.search(r'r\._measurement == "perf_\w+" and r\._field == "\w+"', query), title
        assert query.count("(") == query.count(")"), title
        assert "createEmpty: false" in query, title
    names = {each["name"] for each in made["templating"]["list"]}
    assert names == {"datasource", "source", "destination"}
    assert {each["targets"][0]["datasource"]["uid"] for each in made["panels"]} == {"${datasource}"}
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in made["panels"]]
    assert len(set(places)) == len(places), "no panel covers another"


@pytest.mark.slow
def test_every_query_for_the_metrics_finds_what_a_run_told(
    victoria: str, archive: Any, free_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    esmond_etl_archive.load(archive.archive, [RTT])
    file = tmp_path / f"p{uuid4().hex}.toml"
    sink = f'[[sink]]\ntype = "parquet"\npath = "{tmp_path / "out"}"\n'
    file.write_text(f'from = {START}\nto = {START + DAY}\n[source]\ntype = "esmond"\nurl = "{archive.url}"\n{sink}')
    every = [sys.executable, "-m", "esmond_etl", "run", str(file), "--every", "1h", "--metrics-port", str(free_port)]
    with subprocess.Popen(every, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first run has ended
        told = requests.get(f"http://127.0.0.1:{free_port}/metrics", timeout=30).text
        process.terminate()
    for back in (60, 0):  # a rate needs two values
        moment = {"timestamp": str((START + 400 * DAY - back) * 1000)}
        requests.post(f"{victoria}/api/v1/import/prometheus", params=moment, data=told, timeout=30).raise_for_status()
    requests.get(f"{victoria}/internal/force_flush", timeout=30).raise_for_status()
    for title, target in targets(board(capsys, "metrics")):
        text = target["expr"].replace("$pipeline", file.stem).replace("$__rate_interval", "5m")
        params: dict[str, Any] = {"query": text, "time": START + 400 * DAY, "nocache": "1"}
        result = requests.get(f"{victoria}/api/v1/query", params=params, timeout=30).json()["data"]["result"]
        assert result or "rejects" in text, title
        assert {each["metric"]["pipeline"] for each in result} <= {file.stem}
