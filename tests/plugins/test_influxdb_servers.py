"""The InfluxDB sink against real servers: VictoriaMetrics, and InfluxDB of Debian's packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import esmond_etl_archive
import pytest
import requests
from esmond_etl_influxdb.sink import InfluxDBSink

from esmond_etl import Batch, Context, Interval, Metadata, Receipt, Series, SinkError, Summary, Task
from esmond_etl.engine.verify import Compared, compare
from esmond_etl.testing import SinkSuite

pytestmark = pytest.mark.slow

START = 1380000000  # in 2013, as most of what old archives hold
SPAN = Interval(START - 86400, START + 30 * 86400)

Serve = Callable[[Callable[[Any], Any]], Any]


def opened(url: str, **options: Any) -> InfluxDBSink:
    sink = InfluxDBSink(url=url, **options)
    sink.open(Context())
    return sink


def deliver(sink: InfluxDBSink, *batches: Batch) -> Receipt:
    load = sink.begin(Task(tuple(batch.series for batch in batches), SPAN, 86400))
    for batch in batches:
        load.write(batch)
        load.end(batch.series)
    return load.commit()


def compared(sink: InfluxDBSink, batch: Batch) -> Compared:
    result = Compared(batch.series.id, "sink")
    compare([sink.shows(batch)], sink.read(batch.series, SPAN), result)
    return result


def metadata(**changes: Any) -> Metadata:
    """One that no other test has."""
    facts = {"source": "198.51.100.1", "destination": "203.0.113.2", "tool_name": "pscheduler/powstream", **changes}
    return Metadata(uuid4().hex, **facts)


def every_minute(series: Series, values: list[Any]) -> Batch:
    return Batch.from_points(series, [(START + 60 * row, value) for row, value in enumerate(values)])


def of_every_kind(under: Metadata) -> list[Batch]:
    histograms = [{str(bucket): count + row for bucket, count in ((10, 3), (20, 1), (31, 7))} for row in range(300)]
    subintervals = [[{"start": start * 1.00001, "duration": 1, "val": start + row} for start in range(20)] for row in range(30)]
    traces = [[{"ttl": 1, "ip": f"198.51.100.{row}", "success": 1, "rtt": row / 7}] for row in range(30)]
    return [
        every_minute(Series(under, "throughput"), [row * 1e6 + 1 for row in range(12_000)]),
        every_minute(Series(under, "throughput", Summary("average", 86400)), [1.5, 2.5]),
        every_minute(Series(under, "packet-loss-rate"), [row / 600 for row in range(600)]),
        every_minute(Series(under, "histogram-owdelay"), [*histograms, {}]),
        every_minute(Series(under, "throughput-subintervals"), subintervals),
        every_minute(Series(under, "packet-trace"), traces),
    ]


TEXTS: list[Any] = ['he said "no"\n\\ and, left=1 \té', "", f"a\nthroughput value=6 {START}\nb"]


def in_text(under: Metadata) -> list[Batch]:
    return [
        every_minute(Series(under, "failures"), [*({"error": text} for text in TEXTS if text), {"error": None}, [1]]),
        every_minute(Series(under, "pscheduler-raw"), [*TEXTS, {"a": [1, None]}, None]),
    ]


def equal(batch: Batch, count: int | None = None) -> Compared:
    return Compared(batch.series.id, "sink", equal=len(batch) if count is None else count)


def exported(victoria: str, name: str, **labels: str) -> list[tuple[dict[str, str], list[float], list[int]]]:
    """Each series of VictoriaMetrics: labels, values, Unix times."""
    requests.get(f"{victoria}/internal/force_flush", timeout=30).raise_for_status()
    match = ",".join(f'{key}="{value}"' for key, value in {"__name__": name, **labels}.items())
    lines = requests.get(f"{victoria}/api/v1/export", params={"match[]": f"{{{match}}}"}, timeout=30).iter_lines()
    found = [json.loads(line) for line in lines]
    return [(each["metric"], each["values"], [moment // 1000 for moment in each["timestamps"]]) for each in found]


def test_a_series_of_2013_is_there_with_its_tags_and_each_point_once_however_often_it_is_delivered(victoria: str) -> None:
    under = metadata(input_source="a b,c=d", parameters={"ip-transport-protocol": "tcp"})
    batch = every_minute(Series(under, "throughput"), [7283024174, 0.5])
    sink = opened(victoria, bucket="any", tags=["ip-transport-protocol"], gzip=True)
    assert [deliver(sink, batch) for _ in range(3)] == [Receipt(written=2)] * 3
    assert compared(sink, batch) == equal(batch)
    assert exported(victoria, "throughput_value", metadata_key=under.key) == [
        (
            {
                "__name__": "throughput_value",
                "destination": "203.0.113.2",
                "input_source": "a b,c=d",
                "ip_transport_protocol": "tcp",
                "metadata_key": under.key,
                "source": "198.51.100.1",
                "tool_name": "pscheduler/powstream",
            },
            [7283024174, 0.5],
            [START, START + 60],
        )
    ]


def test_victoria_metrics_gives_back_every_number_of_every_kind(victoria: str) -> None:
    sink, batches = opened(victoria, bucket="any", prefix="perf "), of_every_kind(metadata())
    deliver(sink, *batches)
    expected = [equal(batch, 600 if batch.series.data_type == "subinterval" else None) for batch in batches]
    assert [compared(sink, batch) for batch in batches] == expected


def test_victoria_metrics_cannot_give_back_text_and_takes_none_for_lines(victoria: str) -> None:
    sink, batches = opened(victoria, bucket="any"), in_text(metadata())
    deliver(sink, *batches)
    for batch in batches:
        with pytest.raises(SinkError, match=f"^{batch.series}: {victoria} is VictoriaMetrics, which keeps only numbers"):
            list(sink.read(batch.series, SPAN))
    assert exported(victoria, "throughput_value", metadata_key="") == []


def test_influxdb_gives_back_every_kind_exactly(influxdb: str) -> None:
    sink, under = opened(influxdb, database="perfsonar/autogen", prefix='perf ",='), metadata(input_source="a b,c=d\\")
    batches = of_every_kind(under) + in_text(under)
    deliver(sink, *batches)
    assert deliver(sink, *batches) == Receipt(written=sum(map(len, batches)))
    expected = [equal(batch, 600 if batch.series.data_type == "subinterval" else None) for batch in batches]
    assert [compared(sink, batch) for batch in batches] == expected


def test_what_is_missing_extra_or_different_in_influxdb_is_found(influxdb: str) -> None:
    sink, series = opened(influxdb, database="perfsonar"), Series(metadata(), "throughput")
    deliver(sink, Batch.from_points(series, [(START, 1), (START + 1, 2), (START + 2, 3)]))
    result = compared(sink, Batch.from_points(series, [(START, 1), (START + 1, 9), (START + 3, 4)]))
    assert (result.equal, result.different, result.missing, result.extra) == (1, 1, 1, 1)


def test_a_field_that_is_of_another_type_there_is_rejected_with_influxdbs_reason(influxd: str, influxdb: str) -> None:
    name = f"x{uuid4().hex}"
    requests.post(
        f"{influxd}/write?db=perfsonar", data=f'{name}throughput value="text" {START}000000000', timeout=30
    ).raise_for_status()
    sink, under = opened(influxdb, database="perfsonar", prefix=name), metadata()
    wrong, right = (Series(under, each) for each in ("throughput", "packet-rtt"))
    receipt = deliver(sink, every_minute(wrong, [1, 2]), every_minute(right, [3, 4, 5]))
    reason = (
        f'partial write: field type conflict: input field "value" on measurement "{name}throughput" is type float,'
        " already exists as type string dropped="
    )
    assert receipt.written == 3
    assert [(each.series, each.ts, each.val) for each in receipt.rejected] == [(wrong, START, "1.0"), (wrong, START + 60, "2.0")]
    assert all(each.reason.startswith(reason) for each in receipt.rejected)
    assert compared(sink, every_minute(right, [3, 4, 5])) == equal(every_minute(right, [3, 4, 5]))


def test_lines_that_are_too_long_for_influxdb_are_rejected_and_the_rest_is_there(influxdb: str) -> None:
    long, short = Series(metadata(input_source="x" * 70_000), "throughput"), Series(metadata(), "throughput")
    sink = opened(influxdb, database="perfsonar")
    receipt = deliver(
        sink, every_minute(short, [1, 2]), every_minute(long, [3]), every_minute(Series(short.metadata, "packet-rtt"), [4])
    )
    [reject] = receipt.rejected
    assert receipt.written == 3
    assert (reject.series, reject.ts, reject.val) == (long, START, "3.0")
    assert "unable to parse" in reject.reason
    assert compared(sink, every_minute(short, [1, 2])) == equal(every_minute(short, [1, 2]))


def test_a_database_that_is_not_there_is_named(influxdb: str) -> None:
    with pytest.raises(SinkError, match=r'status 404: database not found: "nowhere": check database$'):
        deliver(opened(influxdb, database="nowhere"), every_minute(Series(metadata(), "throughput"), [1]))


class TestSuite(SinkSuite):
    """What every sink must do, in an InfluxDB whose measurements no other test has."""

    event_types = ("throughput", "time-error-estimates", "failures")

    @pytest.fixture(autouse=True)
    def _place(self, influxdb: str) -> None:
        self.options = {"url": influxdb, "database": "perfsonar", "prefix": f"x{uuid4().hex}_"}

    def sink(self, tmp_path: Path) -> InfluxDBSink:
        return InfluxDBSink(**self.options)


PIPELINE = """
from = 2013-09-01
to = 2013-10-01
window = "1d"
parallel = 2

[source]
type = "esmond"
url = "{source}"

[[sink]]
type = "influxdb"
url = "{sink}"
bucket = "perfsonar"
"""


def fill(archive: Any) -> None:
    """200 datapoints a day for a month, of two event types."""
    day = 1378000000 // 86400 * 86400
    values = [(day + 432 * row, row) for row in range(200 * 30)]
    posted = {
        "subject-type": "point-to-point",
        "source": "198.51.100.1",
        "destination": "203.0.113.2",
        "measurement-agent": "198.51.100.1",
        "tool-name": "bwctl/iperf3",
        "input-source": "a",
        "input-destination": "b",
        "event-types": [{"event-type": name, "summaries": []} for name in ("throughput", "packet-retransmits")],
    }
    record = {"metadata": posted, "datapoints": {"throughput": values, "packet-retransmits": values}}
    assert esmond_etl_archive.load(archive.archive, [record]).written == 12_000


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "esmond_etl", *map(str, arguments)]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_run_that_is_killed_and_repeated_leaves_each_point_once(
    victoria: str, archive: Any, serve: Serve, answer: Any, tmp_path: Path, at: int
) -> None:
    fill(archive)
    children: list[subprocess.Popen[bytes]] = []
    counts: Counter[str] = Counter()

    def respond(asked: Any) -> Any:
        url = f"{victoria}{asked.path}"
        real = requests.request(asked.method, url, params=asked.query, data=asked.body, timeout=30)
        counts[asked.method] += 1
        if counts["POST"] == at and len(children) == 1:  # taken by the server, and the run will never know
            os.kill(children[0].pid, signal.SIGKILL)
            children[0].wait()
        return answer(real.status_code, real.content)

    prefix = f"x{uuid4().hex}_"
    file = tmp_path / "to-influxdb.toml"
    file.write_text(PIPELINE.format(source=archive.url, sink=serve(respond).url) + f'prefix = "{prefix}"\n')
    environment = {**os.environ, "ESMOND_ETL_LEDGER": str(tmp_path)}
    children.append(subprocess.Popen(command("run", file), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert children[0].wait(60) == -signal.SIGKILL
    children.append(subprocess.Popen(command("run", file), env=environment, stdout=subprocess.DEVNULL))
    assert children[1].wait(60) == 0
    assert "2 series, 12,000 datapoints the same" in outcome(environment, "verify", file)
    for name in ("throughput", "packet_retransmits"):
        [(_, values, moments)] = exported(victoria, f"{prefix}{name}_value")
        assert values == [float(row) for row in range(6000)]
        assert len(set(moments)) == 6000


def outcome(environment: dict[str, str], *arguments: Any) -> str:
    """What a command prints that ends well and complains of nothing."""
    done = subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_the_pipeline_that_is_shipped_runs_and_is_verified(victoria: str, archive: Any, tmp_path: Path) -> None:
    fill(archive)
    facts = {
        "SOURCE_URL": archive.url,
        "INFLUXDB_URL": victoria,
        "INFLUXDB_TOKEN": "t",
        "INFLUXDB_ORG": "o",
        "INFLUXDB_BUCKET": "any",
    }
    environment = {**os.environ, **facts, "ESMOND_ETL_LEDGER": str(tmp_path)}
    shipped = Path(__file__).parents[2] / "pipelines" / "to-influxdb.toml"
    outcome(environment, "run", shipped)
    assert "2 series, 12,000 datapoints the same" in outcome(environment, "verify", shipped)


def test_what_victoria_metrics_cannot_say_is_left_out_and_said_once(victoria: str, archive: Any, tmp_path: Path) -> None:
    fill(archive)
    day = 1378000000 // 86400 * 86400
    types = [{"event-type": "failures"}, {"event-type": "pscheduler-run-href"}, {"event-type": "packet-rtt"}]
    for host in ("192.0.2.7", "192.0.2.8"):
        entry = {"subject-type": "point-to-point", "source": host, "destination": "192.0.2.9", "measurement-agent": host}
        points = {"failures": [[day, {"error": "no"}]], "pscheduler-run-href": [[day, {"href": "x"}]], "packet-rtt": [[day, 5]]}
        record = {"metadata": {**entry, "tool-name": "t", "event-types": types}, "datapoints": points}
        esmond_etl_archive.load(archive.archive, [record])
    file = tmp_path / "p.toml"
    file.write_text(PIPELINE.format(source=archive.url, sink=victoria) + f'prefix = "x{uuid4().hex}_"\n')
    environment = {**os.environ, "ESMOND_ETL_LEDGER": str(tmp_path)}
    outcome(environment, "run", file)
    said = " ".join(outcome(environment, "verify", file).split())
    assert f"4 series are not compared: {victoria} is VictoriaMetrics, which keeps only numbers" in said
    assert "4 series, 12,002 datapoints the same" in said
    assert "all the same" in said
    facts = json.loads(outcome(environment, "verify", file, "--json"))
    assert (list(facts["left_out"].values()), facts["differing"]) == ([4], [])


def test_all_that_was_measured_in_2013_is_there(influxdb: str, archive: Any, esnet: Path, tmp_path: Path) -> None:
    loaded = esmond_etl_archive.load(archive.archive, esmond_etl_archive.records(esnet))
    file = tmp_path / "to-influxdb.toml"
    sink = f'[[sink]]\ntype = "influxdb"\nurl = "{influxdb}"\ndatabase = "perfsonar"\nprefix = "x{uuid4().hex}_"\n'
    file.write_text(
        f'from = 2013-01-01\nto = 2015-01-01\n[source]\ntype = "esmond"\nurl = "{archive.url}"\nsummaries = "all"\n{sink}'
    )
    environment = {**os.environ, "ESMOND_ETL_LEDGER": str(tmp_path)}
    outcome(environment, "run", file)
    assert "all the same" in outcome(environment, "verify", file)
    assert loaded.written == 7800


def test_damage_at_random_is_repaired_and_nothing_else_is_sent(influxdb: str, influxd: str, archive: Any, tmp_path: Path) -> None:
    fill(archive)
    prefix, dice = f"x{uuid4().hex}_", Random(5)
    file = tmp_path / "to-influxdb.toml"
    text = PIPELINE.format(source=archive.url, sink=influxdb).replace('bucket = "perfsonar"', 'database = "perfsonar"')
    file.write_text(text.replace('window = "1d"', 'window = "1h"') + f'prefix = "{prefix}"\n')
    environment = {**os.environ, "ESMOND_ETL_LEDGER": str(tmp_path)}
    outcome(environment, "run", file)
    windows = damaged(influxd, f"{prefix}throughput", [*range(6000)], dice)
    repaired = json.loads(outcome(environment, "verify", file, "--repair", "--json"))
    assert repaired["differing"] == []
    last = json.loads(outcome(environment, "history", file, "--json"))[-1]
    day = 1378000000 // 86400 * 86400
    assert last["read"] == sum((day + 432 * row) // 3600 in windows for row in range(6000))
    assert "12,000 datapoints the same" in outcome(environment, "verify", file)


def damaged(url: str, measurement: str, rows: list[int], dice: Random) -> set[int]:
    """Change or delete one of a hundred points of a measurement; returns the hours in which that was."""
    day = 1378000000 // 86400 * 86400
    moments = [day + 432 * row for row in dice.sample(rows, len(rows) // 100)]
    asked = {"db": "perfsonar", "q": f'SELECT value FROM "{measurement}" GROUP BY * LIMIT 1'}
    tags = requests.get(f"{url}/query", params=asked, timeout=30).json()["results"][0]["series"][0]["tags"]
    head = ",".join([measurement, *(f"{name}={value}" for name, value in tags.items() if value)])
    for place, ts in enumerate(moments):
        if place % 2:
            query = {"db": "perfsonar", "q": f'DELETE FROM "{measurement}" WHERE time = {ts}000000000'}
            requests.post(f"{url}/query", params=query, timeout=30).raise_for_status()
        else:
            line = f"{head} value=-1 {ts}"
            requests.post(
                f"{url}/write", params={"db": "perfsonar", "precision": "s"}, data=line.encode(), timeout=30
            ).raise_for_status()
    return {ts // 3600 for ts in moments}
