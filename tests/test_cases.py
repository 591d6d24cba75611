"""`esmond-etl test`: the tests that stand in pipeline files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esmond_etl.cli.group import run

HEAD = """
from = 2014-01-01
[source]
type = "esmond"
url = "https://archive.example.net/"
[[transform]]
type = "scale"
event_types = ["throughput"]
factor = 1e-9
[[transform]]
type = "drop"
event_types = ["throughput"]
above = 100
[[transform]]
type = "tag"
tag = "site"
value = "here"
[[sink]]
type = "stdout"
"""


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the tests of a file that ends with the given text: the exit code, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def go(text: str, *options: str, head: str = HEAD) -> tuple[int, str, str]:
        Path("x.toml").write_text(head + text, encoding="utf-8")
        code = run(["test", "x.toml", *options])
        return code, *capsys.readouterr()

    return go


def case(points: str, expected: str, *more: str, event_type: str = "throughput") -> str:
    """A test in TOML."""
    lines = ["[[test]]", f'event_type = "{event_type}"', f"points = {points}", f"expected = {expected}", *more, ""]
    return "\n".join(lines)


def test_what_comes_out_as_expected_passes(tested: Any) -> None:
    text = case("[[2014-01-01T00:00:00Z, 2500000000], [1388534460, 1e12]]", '[["2014-01-01", 2.5]]')
    assert tested(text + case("[[2014-01-01, 1]]", "[[2014-01-01, 1]]", event_type="packet-rtt")) == (
        0,
        "x.toml: 2 passed, 0 failed\n",
        "",
    )


def test_what_comes_out_otherwise_is_shown_as_a_diff(tested: Any) -> None:
    points = '[["2014-01-01", 1000000000], ["2014-01-01T00:01:00Z", 2000000000], ["2014-01-01T00:02:00Z", 9e12]]'
    expected = '[["2014-01-01", 1], ["2014-01-01T00:01:00Z", 3], ["2014-01-01T00:02:00Z", 9000]]'
    assert tested(case(points, expected, 'name = "Gbit/s"')) == (
        1,
        "x.toml: Gbit/s: not what was expected\n"
        "  --- expected\n"
        "  +++ what came out\n"
        "  @@ -1,3 +1,2 @@\n"
        "   2014-01-01  1\n"
        "  -2014-01-01T00:01:00Z  3\n"
        "  -2014-01-01T00:02:00Z  9000\n"
        "  +2014-01-01T00:01:00Z  2\n"
        "x.toml: 0 passed, 1 failed\n",
        "",
    )


def test_numbers_may_differ_by_what_arithmetic_does_and_no_more(tested: Any) -> None:
    assert tested(case('[["2014-01-01", 123456789]]', '[["2014-01-01", 0.123456789]]'))[0] == 0
    assert tested(case('[["2014-01-01", 123456789]]', '[["2014-01-01", 0.123456788]]'))[0] == 1


def test_a_datapoint_more_or_fewer_is_a_difference(tested: Any) -> None:
    two = '[["2014-01-01", 1000000000], ["2014-01-02", 1000000000]]'
    assert tested(case(two, '[["2014-01-01", 1]]'))[0] == 1
    assert tested(case('[["2014-01-01", 1000000000]]', '[["2014-01-01", 1], ["2014-01-02", 1]]'))[0] == 1
    assert tested(case('[["2014-01-01", 1000000000]]', "[]"))[0] == 1


@pytest.mark.parametrize(
    ("event_type", "value", "other"),
    [
        ("histogram-owdelay", '{ "10" = 5 }', '{ "10" = 6 }'),
        ("failures", '{ error = "no" }', '{ error = "yes" }'),
        ("packet-trace", "[{ ttl = 1 }]", "[{ ttl = 1 }, { ttl = 2 }]"),
        ("packet-trace", "[{ ttl = 1, query = true }]", "[{ ttl = 1, query = 1 }]"),
    ],
)
def test_values_that_are_no_numbers_are_compared_whole(tested: Any, event_type: str, value: str, other: str) -> None:
    points = f'[["2014-01-01", {value}]]'
    assert tested(case(points, points, event_type=event_type))[0] == 0
    assert tested(case(points, f'[["2014-01-01", {other}]]', event_type=event_type))[0] == 1


def test_metadata_and_event_type_are_compared_where_they_are_named(tested: Any) -> None:
    points = '[["2014-01-01", 1]]'
    given = 'metadata = { source = "192.0.2.1", "ip-transport-protocol" = "udp" }'

    def expecting(what: str) -> Any:
        return tested(case(points, points, given, what, event_type="packet-rtt"))

    assert expecting('expected_metadata = { source = "192.0.2.1", site = "here" }')[0] == 0
    assert expecting('expected_event_type = "packet-rtt"')[0] == 0
    code, out, _ = expecting('expected_metadata = { site = "there", source = "192.0.2.2" }\nexpected_event_type = "throughput"')
    assert code == 1
    assert [line.strip() for line in out.splitlines()[4:-2]] == [
        '-event_type = "throughput"',
        '-metadata.site = "there"',
        '-metadata.source = "192.0.2.2"',
        '+event_type = "packet-rtt"',
        '+metadata.site = "here"',
        '+metadata.source = "192.0.2.1"',
    ]


def test_an_error_of_a_transform_fails_the_test_and_not_the_others(tested: Any) -> None:
    points = '[["2014-01-01", 0]]'
    wrong, right = case(points, points, event_type="packet-rtt"), case(points, points)
    convert = HEAD.replace('"scale"\nevent_types = ["throughput"]\nfactor = 1e-9', '"convert"\nto = "Gbit/s"')
    code, out, _ = tested(wrong + right, head=convert)
    assert code == 1
    assert out.splitlines()[0].startswith("x.toml: test[0]: ConfigError: ")
    assert out.splitlines()[-1] == "x.toml: 1 passed, 1 failed"


def test_json_says_the_same(tested: Any) -> None:
    code, out, _ = tested(
        case('[["2014-01-01", 0]]', "[]") + case('[["2014-01-01", 0]]', '[["2014-01-01", 0]]', 'name = "b"'), "--json"
    )
    found = json.loads(out)
    assert code == 1
    assert found["passed"] is False
    assert [(each["name"], each["passed"]) for each in found["files"]["x.toml"]] == [("test[0]", False), ("b", True)]


def test_a_file_without_tests_says_so(tested: Any) -> None:
    assert tested("") == (0, "x.toml: no tests: write a [[test]] (esmond-etl test --help)\n", "")


def test_statistics_of_histograms_and_what_nobody_knows_are_no_numbers(tested: Any) -> None:
    table = "[[2014-01-01, { mean = 1.5 }]]"
    assert tested(case(table, table, 'summary = "statistics/0"', event_type="histogram-owdelay"))[0] == 0
    assert tested(case(table, table, event_type="wifi-signal"))[0] == 0


def test_a_wrong_test_is_refused_with_its_place(tested: Any) -> None:
    code, out, err = tested(case('[["2014-01-01", 1], "x"]', "[]", event_type="througput"))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "esmond-etl: x.toml:21:1: test[0].event_type: unknown event type 'througput'; did you mean 'throughput'?",
        "x.toml:22:30: test[0].points[1]: must be a list of what belongs together, such as [moment, value]",
    ]
