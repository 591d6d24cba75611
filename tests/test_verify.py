"""Two streams of datapoints compared: what counts as the same, and what is told of what does not."""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START as SAMPLED

from esmond_etl import BASE, Batch, Interval, Metadata, Series, Served
from esmond_etl.cli.group import run as command
from esmond_etl.engine import comparison
from esmond_etl.engine.verify import Compared, Difference, compare
from esmond_etl.model.columns import json_column, ts_column
from esmond_etl.testing import RecordedSource

FAILURES, NUMBERS = Series(Metadata("k"), "failures"), Series(Metadata("k"), "throughput")


def compared(series: Series, source: list[list[tuple[int, Any]]], sink: list[list[tuple[int, Any]]]) -> Compared:
    """How the batches of two streams compare."""
    result = Compared(series.id, "sink[0]")
    compare((Batch.from_points(series, each) for each in source), (Batch.from_points(series, each) for each in sink), result)
    return result


@pytest.mark.parametrize(
    ("source", "sink", "same"),
    [
        ({"a": 1, "b": [2.0]}, {"b": [2], "a": 1.0}, True),
        ({"success": True}, {"success": 1}, False),
        ({"hops": [{"success": 0}]}, {"hops": [{"success": False}]}, False),
        ([True, 1], [True, 1], True),
        ("1", 1, False),
        (None, 0, False),
        (2**53 + 1, 2**53, False),
    ],
)
def test_json_is_the_same_if_it_says_the_same(source: Any, sink: Any, same: bool) -> None:
    assert compared(FAILURES, [[(1, source)]], [[(1, sink)]]).same is same


def test_not_a_number_is_what_it_is() -> None:
    assert compared(NUMBERS, [[(1, math.nan), (2, 1.0)]], [[(1, math.nan), (2, 1.0)]]).same
    assert compared(NUMBERS, [[(1, math.nan)]], [[(1, 0.0)]]).different == 1


def test_where_pages_end_does_not_count_and_each_difference_is_told() -> None:
    source = [[(1, 1.0), (2, 2.0), (3, 3.0)], [(4, 4.0)], [(6, 6.0), (7, 7.0)]]
    sink = [[(1, 1.0)], [(2, 2.5), (3, 3.0), (5, 5.0), (6, 6.0)]]
    result = compared(NUMBERS, source, sink)
    assert (result.equal, result.missing, result.extra, result.different) == (3, 2, 1, 1)
    assert result.first == [
        Difference("different", 2, 2.0, 2.5),
        Difference("missing", 4, 4.0, None),
        Difference("extra", 5, None, 5.0),
        Difference("missing", 7, 7.0, None),
    ]


def test_several_values_in_one_second_are_compared_whatever_their_order() -> None:
    result = compared(NUMBERS, [[(1, 1.0), (1, 2.0)], [(1, 2.0), (2, 1.0)]], [[(1, 2.0)], [(1, 1.0), (1, 3.0), (2, 1.0)]])
    assert (result.equal, result.different, result.first) == (3, 1, [Difference("different", 1, 2.0, 3.0)])


def test_a_histogram_that_is_none_hides_nothing_of_the_others() -> None:
    histograms = Series(Metadata("k"), "histogram-ttl")
    source = [[(1, {"1": 2}), (2, None), (3, {"1": 2.5}), (4, {"5": 6})]]
    result = compared(histograms, source, [[(1, {"1": 2}), (3, {"1": 2.5}), (4, {"5": 7})]])
    assert (result.equal, result.missing, result.different) == (2, 1, 1)
    assert result.first == [Difference("missing", 2, None, None), Difference("different", 4, {"5": 6}, {"5": 7})]


def test_a_value_that_cannot_be_decoded_is_compared_as_text() -> None:
    batches = [Batch.of(FAILURES, ts_column(array("q", [1, 2])), json_column([text, b'{"a": 1}'])) for text in (b"1e400", b"1e401")]
    result = Compared(FAILURES.id, "sink[0]")
    compare(batches[:1], batches[1:], result)
    assert (result.equal, result.first) == (1, [Difference("different", 1, "1e400", "1e401")])


def test_a_number_that_an_archive_has_added_up_is_told_from_other_differences(capsys: pytest.CaptureFixture[str]) -> None:
    from esmond_etl.cli.verify import show_differences

    source = [(1, 600.0), (2, 0.1), (3, 600.0), (4, 0.0), (5, 7.0)]
    result = compared(NUMBERS, [source], [[(1, 1200.0), (2, 0.2), (3, 700.0), (4, 1.0), (5, 3.5)]])
    assert (result.different, result.multiples) == (5, 2)
    show_differences([result])
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of the different values are a multiple of what they should be" in said
    assert "An administrator of the archive must delete these datapoints" in said


def test_several_pipelines_are_compared_one_after_the_other(
    archive: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    esmond_etl_archive.load(archive.archive, esmond_etl_archive.sample(days=1, hosts=2))
    files = []
    for name, event_type, url in (
        ("a", "throughput", archive.url),
        ("b", "failures", "http://127.0.0.1:9/"),
        ("c", "path-mtu", archive.url),
    ):
        file = tmp_path / f"{name}.toml"
        source = f'[source]\ntype = "esmond"\nurl = "{url}"\nretries = 0\nevent_types = ["{event_type}"]\n'
        times = f"from = {SAMPLED}\nto = {SAMPLED + 86400}\n"
        file.write_text(f'{times}{source}[[sink]]\ntype = "parquet"\npath = "{name}"\n')
        files.append(str(file))
    good = [files[0], files[2]]
    assert command(["run", *good]) == 0
    capsys.readouterr()
    assert command(["verify", *good]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["a", "c"]
    assert command(["verify", "--json", *good]) == 0
    assert [each["pipeline"] for each in json.loads(capsys.readouterr().out)] == ["a", "c"]
    assert command(["verify", *files]) == 1
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["a", "c"]
    assert "b: GET http://127.0.0.1:9/" in said.err
    assert command(["verify", "--output", str(tmp_path / "x.csv"), *good]) == 2
    assert "go with one pipeline" in capsys.readouterr().err


def test_two_sources_are_matched_by_what_metadata_say_and_then_by_key() -> None:
    def offering(**described: dict[str, Any]) -> RecordedSource:
        kinds = {"event_types": {"throughput": {BASE: Served("")}}}
        made = [Metadata(key, tool_name="x", **said, **kinds) for key, said in described.items()]  # type: ignore[arg-type]
        return RecordedSource(recorded={Series(each, "throughput"): [(5, 1.0)] for each in made})

    old = offering(a={"source": "h1", "parameters": {"p": 1}}, b={"source": "h2"}, c={"source": "h3"})
    new = offering(a={"source": "h1"}, z={"source": "h2"}, d={"source": "h4"})
    found = comparison.pairs(old, new, Interval(0, 10), frozenset(), base_alone=True)
    keys = {(left and left.metadata.key, right and right.metadata.key) for left, right in found}
    assert keys == {("a", "a"), ("b", "z"), ("c", None), (None, "d")}
    assert len(found) == 4
