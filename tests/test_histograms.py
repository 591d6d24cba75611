"""Statistics of histograms: as esmond's recorded answers have them, and as their definitions say."""

import json
import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from statistics import pstdev, pvariance
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import Batch, Metadata, Series
from esmond_etl.model import buckets
from esmond_etl.model.columns import text_column, ts_column
from esmond_etl.model.histograms import STATISTICS, bucket_width, statistics

RECORDED = Path(__file__).parent / "conformance" / "histogram.jsonl"
DELAY = Series(Metadata("k"), "histogram-owdelay")


def opened(*histograms: dict[str, int]) -> pa.Array:
    return Batch.from_points(DELAY, enumerate(histograms)).opened().val


def rows(histograms: pa.Array, width: float = 1.0) -> list[dict[str, Any]]:
    columns = {name: column.to_pylist() for name, column in statistics(histograms, width=width).items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(histogram: dict[str, int]) -> dict[str, Any]:
    """The definitions, sample by sample."""
    samples = sorted(float(bucket) for bucket, count in histogram.items() for _ in range(count))
    if not samples:
        return dict.fromkeys(STATISTICS)

    def percentile(percent: int) -> float:
        rank = percent / 100 * (len(samples) + 1)
        below = min(max(math.floor(rank), 1), len(samples))
        above = min(max(math.floor(rank) + 1, 1), len(samples))
        return samples[below - 1] + (rank - math.floor(rank)) * (samples[above - 1] - samples[below - 1])

    most = max(histogram.values())
    return {
        "minimum": samples[0],
        "maximum": samples[-1],
        "mean": pytest.approx(math.fsum(samples) / len(samples), rel=1e-12, abs=1e-12),
        "median": percentile(50),
        "mode": sorted(float(bucket) for bucket, count in histogram.items() if count == most),
        "percentile-25": percentile(25),
        "percentile-75": percentile(75),
        "percentile-95": percentile(95),
        "standard-deviation": pytest.approx(pstdev(samples), rel=1e-9, abs=1e-9),
        "variance": pytest.approx(pvariance(samples), rel=1e-9, abs=1e-9),
    }


def recorded_pairs() -> list[tuple[dict[str, int], dict[str, Any]]]:
    """(histogram, statistics) of the same moment, from what a real archive answered."""
    pairs = []
    histograms: dict[tuple[str, int], dict[str, int]] = {}
    for line in RECORDED.read_text().splitlines():
        step = json.loads(line)
        path, answer = step["request"]["path"], step["response"].get("json")
        if step["request"]["method"] == "POST" and path.endswith("/histogram-owdelay/base"):
            histograms["statistics/0", step["request"]["json"]["ts"]] = step["request"]["json"]["val"]
        elif path.endswith("/aggregations/3600"):
            histograms |= {("statistics/3600", point["ts"]): point["val"] for point in answer}
        elif "/statistics/" in path:
            summary = path.split("histogram-owdelay/")[1]
            pairs += [(histograms[summary, point["ts"]], point["val"]) for point in answer]
    return pairs


def test_statistics_are_those_that_a_real_archive_answered_to_the_last_digit() -> None:
    pairs = recorded_pairs()
    assert len(pairs) == 4
    assert rows(opened(*[histogram for histogram, _ in pairs])) == [expected for _, expected in pairs]


BUCKETS = st.one_of(st.integers(0, 300).map(str), st.integers(0, 3000).map(lambda tenths: str(tenths / 10)))
HISTOGRAMS = st.lists(st.dictionaries(BUCKETS, st.integers(0, 9), max_size=8), max_size=8)


def unambiguous(histogram: dict[str, int]) -> dict[str, int]:
    """Without "12.0" beside "12"."""
    return {str(bucket): count for bucket, count in {float(name): count for name, count in histogram.items()}.items()}


@given(HISTOGRAMS)
def test_statistics_are_what_their_definitions_say(histograms: list[dict[str, int]]) -> None:
    histograms = [unambiguous(histogram) for histogram in histograms]
    assert rows(opened(*histograms)) == [plain(histogram) for histogram in histograms]


@pytest.mark.slow
@given(HISTOGRAMS, st.integers(0, 8), st.integers(0, 8))
def test_a_histogram_has_the_same_statistics_wherever_it_stands(histograms: list[dict[str, int]], start: int, length: int) -> None:
    column = opened(*histograms)
    assert rows(column.slice(start, length)) == rows(column)[start : start + length]


def test_a_histogram_without_samples_or_with_words_for_buckets_has_no_statistics() -> None:
    none = dict.fromkeys(STATISTICS)
    found = rows(opened({}, {"0": 0}, {"a": 5, "250": 6}, {"inf": 1}, {"28": 33, "7": 0}))
    assert found == [none, none, none, none, plain({"28": 33})]


def test_statistics_come_in_the_unit_of_the_width_and_variance_in_its_square() -> None:
    names = ("minimum", "median", "mean", "mode", "standard-deviation", "variance")
    columns = statistics(opened({"100": 1, "300": 1}), names, width=0.1)
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "minimum": [10.0],
        "median": [20.0],
        "mean": [20.0],
        "mode": [[10.0, 30.0]],
        "standard-deviation": [10.0],
        "variance": [100.0],
    }


@pytest.mark.parametrize(
    ("event_type", "tool", "width", "expected"),
    [
        ("histogram-owdelay", "pscheduler/powstream", 0.0001, 0.1),
        ("histogram-owdelay", "pscheduler/owping", "0.0001", 0.1),
        ("histogram-owdelay", "pscheduler/twping", "0.001", 1.0),
        ("histogram-owdelay", "pscheduler/powstream", None, 1.0),
        ("histogram-owdelay", "pscheduler/halfping", "0.0001", 1.0),
        ("histogram-owdelay", "powstream", "0.0001", 1.0),
        ("histogram-owdelay", None, "0.0001", 1.0),
        ("histogram-rtt", "pscheduler/ping", "0.0001", 1.0),
        ("histogram-ttl", "pscheduler/powstream", "0.0001", 1.0),
    ],
)
def test_buckets_of_one_way_delay_have_the_width_that_the_tool_was_given(
    event_type: str, tool: str | None, width: Any, expected: float
) -> None:
    parameters = {} if width is None else {"sample-bucket-width": width}
    assert bucket_width(Series(Metadata("k", tool_name=tool, parameters=parameters), event_type)) == expected


@pytest.mark.parametrize("width", ["wide", "0", -1, "inf"])
def test_a_width_that_is_none_is_named(width: Any) -> None:
    series = Series(Metadata("k", tool_name="pscheduler/owping", parameters={"sample-bucket-width": width}), "histogram-owdelay")
    with pytest.raises(ValueError, match=f"^k/histogram-owdelay/base: sample-bucket-width is not a valid width: {width!r}$"):
        bucket_width(series)


def of_texts(texts: Sequence[str]) -> Batch:
    return Batch.of(DELAY, ts_column(array("q", range(len(texts)))), text_column(texts))


USUAL = st.tuples(
    st.dictionaries(st.sampled_from(["9", "9.9", "10.0", "10", "-1.5", "100.25"]), st.integers(0, 10**18 - 1), max_size=5),
    st.sampled_from([(", ", ": "), (",", ":")]),
).map(lambda drawn: json.dumps(drawn[0], separators=drawn[1]))

ODD = st.sampled_from(
    [
        '{"9": 1, "9": 2}',
        '{"10": 1, "9": 2, "10": 3}',
        '{"9":  1}',
        '{"9": 1.0}',
        '{"9": 1e2}',
        '{"9": -1}',
        '{"9:1,": 1}',
        '{"\\u0039": 1}',
        '{"ä": 1}',
        f'{{"9": {10**18}}}',
        " {}",
    ]
)


@given(st.lists(USUAL, min_size=1), st.lists(ODD, max_size=1))
def test_many_histograms_are_opened_as_one_by_one(usual: list[str], odd: list[str]) -> None:
    texts = [*usual, *odd]
    together, alone = of_texts(texts), [of_texts([text]) for text in texts]
    try:
        maps = [each.opened().val.to_pylist()[0] for each in alone]
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error).partition("(")[2][:20]):
            many(together)
        return
    assert many(together).val.to_pylist() == maps
    if together.sorted_texts is not None:  # a count that is not written as a whole number leaves all of them without
        assert together.sorted_texts == [each.sorted_texts[0] for each in alone if each.sorted_texts]
    else:
        assert any(each.sorted_texts is None for each in alone)


def many(batch: Batch) -> Batch:
    """The batch opened as if it had many datapoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_FEW", 0)
        return batch.opened()


def test_many_usual_histograms_become_columns_and_others_are_left_alone() -> None:
    usual = [json.dumps({"9.5": number, "10.0": 1}) for number in range(1000)]
    assert buckets.opened(of_texts(usual).val) is not None
    assert buckets.opened(of_texts([*usual, '{"9": 1, "9": 2}']).val) is None
    assert buckets.opened(of_texts([*usual, f'{{"9": {2**63}}}']).val) is None
    assert buckets.opened(of_texts(usual[:10]).val) is None
