"""What the stdout sink prints: whole outputs."""

import csv
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_stdout.sink import StdoutSink
from esmond_etl_stdout.spool import Spool

from esmond_etl import Batch, Context, Interval, Metadata, Receipt, Series, SinkError, Summary, Task

LBL = Metadata(
    "0cb19291",
    source="198.129.254.30",
    destination="198.124.252.141",
    measurement_agent="198.129.254.30",
    tool_name="bwctl/iperf3",
    input_source="lbl-pt1.es.net",
    parameters={"ip-transport-protocol": "tcp", "time-duration": "20"},
)
THROUGHPUT = Series(LBL, "throughput")
HOURLY = Series(LBL, "throughput", Summary("average", 3600))
FAILURES = Series(Metadata("ffff", source="2001:db8::1"), "failures")
TASK = Task((THROUGHPUT, HOURLY, FAILURES), Interval(0, 86400), 86400)


def printed(sink: StdoutSink, capsys: pytest.CaptureFixture[str], *batches: Batch, task: Task = TASK) -> str:
    """What `sink` prints of one task."""
    load = sink.begin(task)
    for batch in batches:
        load.write(batch)
    for series in dict.fromkeys(batch.series for batch in batches):
        load.end(series)
    assert capsys.readouterr() == ("", "")
    assert load.commit() == Receipt(written=sum(map(len, batches)))
    return capsys.readouterr().out


@pytest.fixture
def batches() -> list[Batch]:
    """Datapoints of three series, not in the task's order."""
    return [
        Batch.from_points(FAILURES, [(61, {"error": 'he said "no", twice'})]),
        Batch.from_points(THROUGHPUT, [(60, 7283024174), (120, 0.5)]),
        Batch.from_points(HOURLY, [(0, 23)]),
        Batch.from_points(THROUGHPUT, [(180, 1e22)]),
    ]


def test_a_table_is_aligned_and_in_the_order_of_the_task(capsys: pytest.CaptureFixture[str], batches: list[Batch]) -> None:
    assert printed(StdoutSink(), capsys, *batches) == (
        "time                  event_type               source          destination      tool                 val\n"
        "1970-01-01T00:01:00Z  throughput               198.129.254.30  198.124.252.141  bwctl/iperf3  7283024174\n"
        "1970-01-01T00:02:00Z  throughput               198.129.254.30  198.124.252.141  bwctl/iperf3         0.5\n"
        "1970-01-01T00:03:00Z  throughput               198.129.254.30  198.124.252.141  bwctl/iperf3        1e22\n"
        "1970-01-01T00:00:00Z  throughput average/3600  198.129.254.30  198.124.252.141  bwctl/iperf3          23\n"
        "1970-01-01T00:01:01Z  failures                 2001:db8::1     -                -             "
        '{"error":"he said \\"no\\", twice"}\n'
    )


def test_a_table_shortens_long_values_and_shows_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(StdoutSink(), capsys, Batch.from_points(FAILURES, [(1, "x\x9b2J" + "y" * 100)])).splitlines()
    assert lines == [
        "time                  event_type  source       destination  tool  val",
        "1970-01-01T00:00:01Z  failures    2001:db8::1  -            -     " + '"x\ufffd2J' + "y" * 54 + "…",
    ]


def test_tables_go_on_below_one_heading_until_a_task_needs_wider_columns(capsys: pytest.CaptureFixture[str]) -> None:
    sink = StdoutSink()
    failure, narrow, wide = (
        Batch.from_points(*each) for each in ((FAILURES, [(1, "x")]), (THROUGHPUT, [(1, 5)]), (THROUGHPUT, [(1, 1234567)]))
    )
    assert printed(sink, capsys) == ""
    tables = [printed(sink, capsys, batch) for batch in (failure, narrow, wide, narrow, failure)]
    assert tables == [
        "time                  event_type  source       destination  tool  val\n"
        '1970-01-01T00:00:01Z  failures    2001:db8::1  -            -     "x"\n',
        "\ntime                  event_type  source          destination      tool          val\n"
        "1970-01-01T00:00:01Z  throughput  198.129.254.30  198.124.252.141  bwctl/iperf3    5\n",
        "\ntime                  event_type  source          destination      tool              val\n"
        "1970-01-01T00:00:01Z  throughput  198.129.254.30  198.124.252.141  bwctl/iperf3  1234567\n",
        "1970-01-01T00:00:01Z  throughput  198.129.254.30  198.124.252.141  bwctl/iperf3        5\n",
        '1970-01-01T00:00:01Z  failures    2001:db8::1     -                -             "x"\n',
    ]
    sink.open(Context())
    assert printed(sink, capsys, failure) == tables[0]


def test_csv_reads_back_whole(capsys: pytest.CaptureFixture[str], batches: list[Batch]) -> None:
    lbl = ["198.129.254.30", "198.124.252.141", "198.129.254.30", "bwctl/iperf3", "lbl-pt1.es.net", ""]
    parameters = '{"ip-transport-protocol":"tcp","time-duration":"20"}'
    names = "ts val metadata_key event_type summary source destination measurement_agent tool_name input_source input_destination"
    sink = StdoutSink(format="csv")
    assert list(csv.reader(io.StringIO(printed(sink, capsys, *batches)))) == [
        [*names.split(), "parameters"],
        ["60", "7283024174", "0cb19291", "throughput", "base", *lbl, parameters],
        ["120", "0.5", "0cb19291", "throughput", "base", *lbl, parameters],
        ["180", "1e22", "0cb19291", "throughput", "base", *lbl, parameters],
        ["0", "23.0", "0cb19291", "throughput", "average/3600", *lbl, parameters],
        ["61", '{"error":"he said \\"no\\", twice"}', "ffff", "failures", "base", "2001:db8::1", "", "", "", "", "", "{}"],
    ]
    assert printed(sink, capsys, *batches).count("metadata_key") == 0


def test_json_lines_hold_one_object_each(capsys: pytest.CaptureFixture[str], batches: list[Batch]) -> None:
    subject: dict[str, Any] = {"source": "198.129.254.30", "destination": "198.124.252.141", "measurement_agent": "198.129.254.30"}
    subject |= {"tool_name": "bwctl/iperf3", "input_source": "lbl-pt1.es.net", "input_destination": None}
    lbl = {"metadata_key": "0cb19291", "event_type": "throughput", "summary": "base", **subject, "parameters": LBL.parameters}
    nothing = dict.fromkeys(subject)
    failures = {"metadata_key": "ffff", "event_type": "failures", "summary": "base", **nothing, "source": "2001:db8::1"}
    lines = printed(StdoutSink(format="jsonl"), capsys, *batches).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"ts": 60, "val": 7283024174, **lbl},
        {"ts": 120, "val": 0.5, **lbl},
        {"ts": 180, "val": 1e22, **lbl},
        {"ts": 0, "val": 23.0, **lbl, "summary": "average/3600"},
        {"ts": 61, "val": {"error": 'he said "no", twice'}, **failures, "parameters": {}},
    ]
    assert list(json.loads(lines[0])) == ["ts", "val", *lbl]


def test_a_value_that_came_on_several_lines_is_printed_on_one(capsys: pytest.CaptureFixture[str]) -> None:
    ts, val = pa.array([1], pa.timestamp("s", "UTC")), pa.array(['{\r\n  "error": "a b"\n}'])
    batch = Batch.of(FAILURES, ts, val)
    for name in ("jsonl", "csv", "table"):
        assert [line.count("error") for line in printed(StdoutSink(format=name), capsys, batch).splitlines()][-1:] == [1]
    assert printed(StdoutSink(format="jsonl"), capsys, batch).startswith('{"ts":1,"val":{"error":"a b"},"metadata_key"')


def test_opened_histograms_are_printed_as_objects(capsys: pytest.CaptureFixture[str]) -> None:
    delays = Batch.from_points(FAILURES.replace(event_type="histogram-owdelay"), [(1, {"28": 33})])
    assert printed(StdoutSink(format="jsonl"), capsys, delays.opened()) == printed(StdoutSink(format="jsonl"), capsys, delays)


def test_what_is_rolled_back_is_never_printed(capsys: pytest.CaptureFixture[str], batches: list[Batch]) -> None:
    load = StdoutSink(format="jsonl").begin(TASK)
    load.write(batches[0])
    load.rollback()
    assert capsys.readouterr() == ("", "")


def test_a_series_that_did_not_end_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("csv", "table"):
        load = StdoutSink(format=name).begin(TASK)
        load.write(Batch.from_points(THROUGHPUT, [(1, 10**9)]))
        load.write(Batch.from_points(FAILURES, [(1, "x")]))
        load.end(FAILURES)
        load.end(HOURLY)
        assert load.commit() == Receipt(written=1)
        found = capsys.readouterr().out
        assert found == printed(StdoutSink(format=name), capsys, Batch.from_points(FAILURES, [(1, "x")]))


def test_series_written_from_many_threads_come_out_as_if_from_one(capsys: pytest.CaptureFixture[str]) -> None:
    series = tuple(Series(Metadata(f"{number:04}"), "throughput") for number in range(40))
    pages = {
        each: [Batch.from_points(each, [(page * 10 + row, row) for row in range(10)]) for page in range(20)] for each in series
    }
    task = Task(series, Interval(0, 86400), 86400)
    load = StdoutSink(format="csv").begin(task)

    def deliver(each: Series) -> None:
        for page in pages[each]:
            load.write(page)
        load.end(each)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(deliver, series))
    assert load.commit() == Receipt(written=40 * 200)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["metadata_key"], int(row["ts"])) for row in rows] == [
        (each.metadata.key, ts) for each in series for ts in range(200)
    ]


def test_the_spool_gives_back_what_it_was_given_also_from_disk() -> None:
    for in_memory in (10, 1 << 20):
        spool = Spool(in_memory)
        for number in range(100):
            spool.add((THROUGHPUT, FAILURES)[number % 2], b"%d," % number)
        assert [b"".join(spool.pieces(each)) for each in (THROUGHPUT, FAILURES)] == [
            b"".join(b"%d," % number for number in range(start, 100, 2)) for start in (0, 1)
        ]
        spool.close()


def test_a_reader_that_has_gone_is_an_error_of_the_sink() -> None:
    program = """
import sys
from esmond_etl_stdout.sink import StdoutSink
from esmond_etl import Batch, Interval, Metadata, Series, SinkError, Task
series = Series(Metadata("k"), "throughput")
load = StdoutSink(format="csv").begin(Task((series,), Interval(0, 10**6), 10**6))
load.write(Batch.from_points(series, [(ts, 1) for ts in range(50000)]))
load.end(series)
sys.stdin.read(1)
try:
    load.commit()
except SinkError as error:
    print(error, file=sys.stderr)
    sys.stderr.flush()
    __import__("os")._exit(3)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write("x")
        process.stdin.close()
        assert process.stderr.read() == "standard output was closed by the program that read it\n"
    assert process.returncode == 3


def test_it_cannot_be_read_back() -> None:
    with pytest.raises(SinkError, match="a StdoutSink cannot be read back"):
        StdoutSink().read(THROUGHPUT, Interval(0, 1))
