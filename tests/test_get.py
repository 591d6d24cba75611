"""The commands `get` and `list`, on the command line and against an archive on a socket."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_archive import load

from esmond_etl import Interval, Metadata, Series
from esmond_etl.cli.get import file_names
from esmond_etl.cli.group import run
from esmond_etl.cli.printing import PRINTERS

GOLDEN = Path(__file__).parent / "golden" / "get"
TS = 1397075053
WINDOW = ("-S", "2014-04-09", "-E", "2014-04-10", "--ip")
LOST = {"ttl": 2, "query": 1, "success": 0, "error-message": "requestTimedOut"}
HOP = {"ttl": 1, "query": 1, "success": 1, "ip": "198.51.100.254", "hostname": "gw.example.net", "rtt": 0.5, "mtu": 9000}
PARTS = [{"start": 0, "duration": 10, "val": 1000.5}, {"start": 10, "duration": 10, "val": 2000}]

#: A shape of value -> an event type that has it, the options that ask for it, and datapoints.
SHAPES: dict[str, tuple[str, tuple[str, ...], list[list[Any]]]] = {
    "integer": ("throughput", (), [[TS, 5000000000], [TS + 60, 23]]),
    "float": ("time-error-estimates", (), [[TS, 0.25]]),
    "percentage": ("packet-loss-rate", (), [[TS, {"numerator": 1, "denominator": 3}]]),
    "average": ("throughput", ("-T", "average", "-W", "86400"), []),
    "histogram": ("histogram-owdelay", (), [[TS, {"10.5": 2, "9": 600, "-1": 1}], [TS + 60, {}]]),
    "aggregation": ("histogram-owdelay", ("-T", "aggregation"), []),
    "statistics": ("histogram-owdelay", ("--summary-type", "statistics"), []),
    "failures": ("failures", (), [[TS, {"error": 'no "route", sorry'}], [TS + 60, "a bare text"]]),
    "packet-trace": ("packet-trace", (), [[TS, [HOP, LOST]], [TS + 60, [{"ttl": "1", "error_message": "old"}]]]),
    "packet-trace-multi": ("packet-trace-multi", (), [[TS, [[HOP], [], [HOP]]]]),
    "subintervals": ("throughput-subintervals", (), [[TS, PARTS]]),
    "streams": ("streams-throughput", (), [[TS, [1.5, 2, None]]]),
    "streams-subintervals": ("streams-throughput-subintervals", (), [[TS, [PARTS, None, PARTS[:1]]]]),
    "json": ("pscheduler-raw", (), [[TS, {"succeeded": True, "data": [{"oid": "1.3.6.1", "value": "42"}]}], [TS + 60, None]]),
    "href": ("pscheduler-run-href", (), [[TS, {"href": "https://ps.example.net/runs/1"}]]),
}


def record(datapoints: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What an archive loads."""
    summaries = {
        "throughput": [("average", 86400), ("average", 3600)],
        "histogram-owdelay": [("aggregation", 86400), ("statistics", 0)],
    }
    subject = {
        "subject-type": "point-to-point",
        "source": "198.51.100.1",
        "destination": "2001:db8::1",
        "tool-name": "pscheduler/iperf3",
        "measurement-agent": "198.51.100.1",
        "input-source": "a.example.net",
        "input-destination": "b.example.net",
    }
    event_types = [
        {
            "event-type": name,
            "summaries": [{"summary-type": kind, "summary-window": window} for kind, window in summaries.get(name, [])],
        }
        for name in datapoints
    ]
    metadata = {name: value for name, value in {**subject, **changes}.items() if value is not None}
    return {"metadata": {**metadata, "event-types": event_types}, "datapoints": datapoints}


@pytest.fixture
def shapes(archive: Any) -> Any:
    """An archive with values of every shape."""
    load(archive.archive, [record({name: points for name, _, points in SHAPES.values() if points})])
    return archive


@pytest.mark.parametrize("format_name", ["table", "csv", "jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_value_in_every_format_is_as_on_record(
    shapes: Any, shape: str, format_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    event_type, options, _ = SHAPES[shape]
    assert run(["get", shapes.url, "-e", event_type, *options, *WINDOW, "-o", format_name]) == 0
    out, err = capsys.readouterr()
    golden = GOLDEN / f"{shape}.{format_name}"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(out)
    assert (out, err) == (golden.read_text(), "")


@pytest.mark.parametrize("format_name", ["table", "csv", "jsonl"])
def test_shapes_together_have_all_their_columns(shapes: Any, format_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["get", shapes.url, "-e", "throughput", "-e", "failures", "-e", "histogram-owdelay", *WINDOW, "-o", format_name]) == 0
    )
    golden = GOLDEN / f"together.{format_name}"
    out = capsys.readouterr().out
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(out)
    assert out == golden.read_text()


@pytest.mark.parametrize(("old", "new"), [("human", "table"), ("json", "jsonl")])
def test_formats_have_their_old_names_too(shapes: Any, old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", shapes.url, "-e", "throughput", *WINDOW, "--output-format", old]) == 0
    assert capsys.readouterr().out == (GOLDEN / f"integer.{new}").read_text()


def values(archive: Any, capsys: pytest.CaptureFixture[str], *options: str) -> list[Any]:
    """The values that `get` prints of throughput."""
    assert run(["get", archive.url, "-e", "throughput", "-o", "jsonl", "--ip", *options]) == 0
    return [json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def tests(archive: Any) -> Any:
    """An archive with several tests; the value of each names it."""
    day = {"throughput": [[TS, 1], [TS + 86400, 2]]}
    others = [
        {"source": "198.51.100.2"},
        {"destination": "2001:db8::2"},
        {"measurement-agent": "198.51.100.9"},
        {"tool-name": "bwctl/iperf3"},
        {"ip-tos": "32"},
        {"gateway": "2001:db8::9"},
    ]
    more = [record({"throughput": [[TS, 10 + number]]}, **each) for number, each in enumerate(others)]
    load(archive.archive, [record(day), *more])
    return archive


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--src", "198.51.100.2"), [10]),
        (("--source", "198.51.100.2"), [10]),
        (("-s", "198.51.100.2"), [10]),
        (("--dest", "2001:db8::2"), [11]),
        (("--destination", "2001:db8::2"), [11]),
        (("--agent", "198.51.100.9"), [12]),
        (("--tool", "bwctl/iperf3"), [13]),
        (("--filter", "ip-tos:32"), [14]),
        (("--filter", "ip_tos:32"), [14]),
        (("-F", "gateway:2001:db8::9"), [15]),
        (("-F", "gateway:2001:db8::9", "-F", "ip-tos:32"), []),
        (("-s", "198.51.100.1", "-a", "198.51.100.1", "-F", "tool-name:pscheduler/iperf3", "-d", "2001:db8::1"), [1, 2, 14, 15]),
    ],
)
def test_every_filter_selects_tests(
    tests: Any, options: tuple[str, ...], expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(values(tests, capsys, "-S", "2014-01-01", *options)) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2014-04-09", "2014-04-10", [1]),
        ("April 10 2014", "2014-04-11", [2]),
        ("9 Apr 2014 8pm", "Apr 9 2014 20:24:13", []),  # the end is not included
        ("2014-04-09T22:24:13+02:00", "2014-04-09 20:24:14", [1]),
        ("1397075053", "2014-04-10T20:24:14Z", [1, 2]),
        ("04/09/2014", None, [1, 2]),
        ("30d", None, []),
    ],
)
def test_times_are_written_as_people_do(
    tests: Any, start: str, end: str | None, expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    window = ("--start-time", start, *(("--end-time", end) if end else ()))
    options = ("-s", "198.51.100.1", "-d", "2001:db8::1", "-a", "198.51.100.1", "-t", "pscheduler/iperf3")
    found = [value for value in values(tests, capsys, *options, *window) if value < 10]
    assert found == expected


def test_the_last_24_hours_are_what_comes_without_times(archive: Any, capsys: pytest.CaptureFixture[str]) -> None:
    now = int(time.time())
    load(archive.archive, [record({"throughput": [[now - 86400 - 60, 1], [now - 86400 + 60, 2], [now - 1, 3]]})])
    assert values(archive, capsys) == [2, 3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [("base", 0)]),
        (("-T", "base"), [("base", 0)]),
        (("-T", "average"), [("average", 3600), ("average", 86400)]),
        (("-T", "average", "-W", "3600"), [("average", 3600)]),
        (("-W", "86400"), [("average", 86400)]),
        (("-T", "aggregation"), []),
    ],
)
def test_summaries_are_chosen_by_type_and_window(
    archive: Any, options: tuple[str, ...], expected: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    load(archive.archive, [record({"throughput": [[TS, 1]]})])
    assert run(["get", archive.url, *WINDOW, "-o", "csv", *options]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert sorted((row["summary_type"], int(row["summary_window"])) for row in rows) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "URL", "-e", "thruput"], "there is no event type thruput: did you mean throughput?"),
        (["get", "URL", "-F", "tcp"], "--filter tcp: write KEY:VALUE"),
        (["get", "URL", "-S", "soon"], "--start-time soon: not a date: write"),
        (["get", "URL", "-E", "5pm XYZ"], "--end-time 5pm XYZ: not a date: write"),  # a time zone that nobody knows
        (["get", "URL", "-S", "2014-01-02", "-E", "2014-01-02"], "--end-time does not lie after --start-time"),
        (["get", "URL", "-D", "out", "-o", "table"], "--directory takes --format csv, spreadsheet or jsonl"),
        (["get", "archive.example.net"], "'archive.example.net' is not the URL of an archive: write https://HOST/"),
        (["get", "URL", "-o", "xml"], "'xml' is not one of"),
        (["get", "URL", "-T", "median"], "'median' is not one of"),
        (["list", "URL", "-S", "soon"], "--start-time soon: not a date: write"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_exit_code_2(
    archive: Any, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([archive.url if each == "URL" else each for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_nothing_that_matches_is_said_on_stderr(archive: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", archive.url, *WINDOW]) == 0
    assert capsys.readouterr() == ("", f"{archive.url}: no such series from 2014-04-09 to 2014-04-10\n")
    assert run(["list", archive.url, "-S", "2014-04-09"]) == 0
    assert capsys.readouterr() == ("", f"{archive.url}: no such tests since 2014-04-09\n")


def test_a_series_that_fails_is_reported_and_the_others_come(
    shapes: Any, proxy: Callable[..., Any], answer: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def meddle(asked: Any, real: Any) -> Any:
        if "throughput/base" in asked.path:
            return answer(404, b'{"detail": "gone"}')
        return answer(200, b'[{"ts": %d, "val": ["no", "hops"]}]' % TS) if "packet-trace/" in asked.path else real

    server = proxy(shapes.url, meddle)
    options = [server.url, "-e", "throughput", "-e", "packet-trace", "-e", "packet-loss-rate", *WINDOW]
    assert run(["get", *options, "-o", "csv"]) == 1
    out, err = capsys.readouterr()
    assert [row["event_type"] for row in csv.DictReader(io.StringIO(out))] == ["packet-loss-rate"]
    assert [line.split(": ")[0] for line in err.splitlines()] == ["esmond-etl"] * 2
    assert 'packet-trace/base at 2014-04-09 20:24:13: not a packet trace: ["no","hops"]' in err
    assert "status 404: gone" in err
    assert run(["get", *options, "--directory", str(tmp_path / "out")]) == 1
    assert [each.name for each in (tmp_path / "out").iterdir()] == [
        "198.51.100.1_2001:db8::1_packet-loss-rate_2014-04-09_2014-04-10.csv"
    ]


def test_a_file_for_each_series_with_what_is_printed_of_it(shapes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "deep" / "out"
    assert run(["get", shapes.url, *WINDOW, "--directory", str(directory)]) == 0
    names = {shape: name for shape, (name, options, _) in SHAPES.items() if not options}
    files = {shape: directory / f"198.51.100.1_2001:db8::1_{name}_2014-04-09_2014-04-10.csv" for shape, name in names.items()}
    assert sorted(directory.iterdir()) == sorted(files.values())
    assert {shape: file.read_text() for shape, file in files.items()} == {
        shape: (GOLDEN / f"{shape}.csv").read_text() for shape in names
    }
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(map(str, files.values()))


def test_files_of_summaries_say_so_and_those_of_one_name_say_their_key(archive: Any, tmp_path: Path) -> None:
    load(
        archive.archive, [record({"throughput": [[TS, 1]]}), record({"throughput": [[TS, 2]], "path-mtu": []}, **{"ip-tos": "32"})]
    )
    assert run(["get", archive.url, *WINDOW, "-D", str(tmp_path / "out"), "-o", "jsonl"]) == 0
    names = sorted(each.name for each in (tmp_path / "out").iterdir())
    assert len(names) == 2  # of path-mtu there is nothing
    assert all(
        name.startswith("198.51.100.1_2001:db8::1_throughput_2014-04-09_2014-04-10_") and name.endswith(".jsonl") for name in names
    )
    assert sorted(json.loads((tmp_path / "out" / name).read_text())["value"] for name in names) == [1, 2]
    assert run(["get", archive.url, *WINDOW, "-D", str(tmp_path / "s"), "-W", "3600", "-F", "ip-tos:32"]) == 0
    assert [each.name for each in (tmp_path / "s").iterdir()] == [
        "198.51.100.1_2001:db8::1_throughput_average_3600_2014-04-09_2014-04-10.csv"
    ]


def test_a_network_element_has_a_file_without_destination(archive: Any, tmp_path: Path) -> None:
    element = {"subject-type": "network-element", "destination": None, "input-destination": None}
    load(archive.archive, [record({"failures": [[TS, {"error": "x"}]]}, **element)])
    assert run(["get", archive.url, *WINDOW, "-D", str(tmp_path / "out")]) == 0
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["198.51.100.1_failures_2014-04-09_2014-04-10.csv"]


def test_addresses_become_names_where_they_have_one(archive: Any, capsys: pytest.CaptureFixture[str]) -> None:
    load(archive.archive, [record({"throughput": [[TS, 1]]}, source="127.0.0.1", destination="127.0.0.1")])
    shown = {}
    for options in ((), ("--ip",)):
        assert run(["get", archive.url, "-S", "2014-04-09", "-o", "jsonl", *options]) == 0
        shown[options] = json.loads(capsys.readouterr().out)["source"]
    assert shown == {(): "localhost", ("--ip",): "127.0.0.1"}


def test_a_table_hides_nothing_from_a_terminal_but_what_it_would_obey(archive: Any, capsys: pytest.CaptureFixture[str]) -> None:
    load(archive.archive, [record({"failures": [[TS, {"error": "\x1b[31mred\nline"}]]})])
    assert run(["get", archive.url, *WINDOW]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].endswith("\N{REPLACEMENT CHARACTER}[31mred line")
    assert len(out.splitlines()) == 2


def test_an_api_key_is_taken_from_the_environment(archive: Any) -> None:
    for key, code in (("secret", 0), ("nope", 1)):
        command = [sys.executable, "-m", "esmond_etl", "list", archive.url]
        done = subprocess.run(command, env={**os.environ, "ESMOND_ETL_API_KEY": key}, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "nope" not in done.stderr


def test_progress_is_shown_on_stderr_only_where_that_is_a_terminal(tests: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "esmond_etl", "get", tests.url, "-S", "2014-04-09", "--ip", "-o", "csv"]
    quiet = subprocess.run(command, capture_output=True, check=True)
    assert quiet.stderr == b""
    ours, theirs = pty.openpty()
    watched = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True)
    shown = os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    assert watched.stdout == quiet.stdout
    assert b"0/7 series, 0 datapoints" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_a_reader_that_goes_away_is_no_error_with_a_traceback(archive: Any) -> None:
    load(archive.archive, [record({"throughput": [[TS + number, number] for number in range(20_000)]})])
    command = f"{sys.executable} -m esmond_etl get {archive.url} -S 2014-04-09 -e throughput --ip -o csv | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


@pytest.fixture
def listed(archive: Any) -> Any:
    """An archive whose list has something to show."""
    empty = {"throughput": [[TS, 1]], "failures": []}
    element = {"subject-type": "network-element", "destination": None, "input-destination": None, "tool-name": "pscheduler/snmpget"}
    load(
        archive.archive,
        [
            record(empty, **{"ip-tos": "32"}),
            record({"packet-trace": [[TS, []]]}),
            record({"failures": [[TS, {"error": "x"}]]}, **element),
            record({"path-mtu": []}, source="198.51.100.77"),
        ],
    )
    return archive


METADATA = [
    ["198.51.100.1", "", "198.51.100.1", "a.example.net", "", "pscheduler/snmpget"],
    *[["198.51.100.1", "2001:db8::1", "198.51.100.1", "a.example.net", "b.example.net", "pscheduler/iperf3"]] * 2,
]


def test_a_list_has_what_was_written_to_since_the_start(listed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", listed.url, "--ip", "-o", "csv"]) == 0
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["source", "destination", "measurement_agent", "input_source", "input_destination", "tool_name"]
    assert sorted(rows) == METADATA
    assert run(["list", listed.url, "--ip", "-o", "csv", "-S", "Jan 1 2090"]) == 0
    assert capsys.readouterr().out == ""


def test_endpoints_are_one_row_for_all_that_one_tool_measures_between_two_hosts(
    listed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", listed.url, "--endpoints", "--ip"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "source        destination  measurement_agent  tool_name           event_type",
        "198.51.100.1  2001:db8::1  198.51.100.1       pscheduler/iperf3   failures, packet-trace, throughput",
        "198.51.100.1               198.51.100.1       pscheduler/snmpget  failures",
    ]


def test_an_extended_list_has_every_parameter(listed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", listed.url, "--extended", "--ip", "-o", "jsonl", "-e", "throughput"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found.pop("metadata_key")) > 8
    assert found == {
        "source": "198.51.100.1",
        "destination": "2001:db8::1",
        "measurement_agent": "198.51.100.1",
        "input_source": "a.example.net",
        "input_destination": "b.example.net",
        "tool_name": "pscheduler/iperf3",
        "subject_type": "point-to-point",
        "event_types": ["failures", "throughput"],
        "ip_tos": "32",
    }


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("-t", "pscheduler/snmpget"), 1),
        (("-F", "ip-tos:32"), 1),
        (("-T", "average"), 1),
        (("-W", "3600"), 1),
        (("-W", "60"), 0),
        (("-e", "packet-trace", "-e", "throughput"), 2),
        (("-e", "failures"), 2),
        (("-d", "2001:db8::1"), 2),
    ],
)
def test_a_list_has_the_same_filters(listed: Any, options: tuple[str, ...], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", listed.url, "--ip", "-o", "jsonl", *options]) == 0
    assert len(capsys.readouterr().out.splitlines()) == count


@pytest.mark.parametrize("command", ["get", "list"])
def test_help_teaches_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"    esmond-etl {command} https://archive.example.net/") >= 3


def test_names_of_files_have_nothing_that_a_shell_or_a_file_system_obeys() -> None:
    hostile = [
        Metadata(f"k{number}", source=source, destination="b")
        for number, source in enumerate(["../../etc/x", "a;rm -rf *", "a" * 999])
    ]
    names = file_names([Series(each, "throughput") for each in hostile], Interval(0, 86400), str).values()
    assert all(re.fullmatch(r"[\w.:+-]{1,200}", name) and not name.startswith(".") for name in names)
    assert len(set(names)) == 3
    plain = Series(Metadata("k", source="2001:db8::1", destination="b.example.net"), "throughput")
    assert [*file_names([plain], Interval(0, 86400), str).values()] == [
        "2001:db8::1_b.example.net_throughput_1970-01-01_1970-01-02"
    ]


def test_a_spreadsheet_takes_no_text_for_a_formula() -> None:
    out = io.StringIO()
    printer = PRINTERS["spreadsheet"](out, ["a", "b"])
    printer.rows(["a", "b"], [("=1+1", -0.5), ("@x", "-1"), ("-x", ["+a", "b"]), ("plain", None)])
    assert out.getvalue() == "a,b\n'=1+1,-0.5\n'@x,-1\n'-x,\"'+a, b\"\nplain,\n"
