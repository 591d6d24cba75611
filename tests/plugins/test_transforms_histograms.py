"""`histogram_stats` and `merge_histograms`."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_transforms.histogram_stats import HistogramStats
from esmond_etl_transforms.merge_histograms import MergeHistograms
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import Batch, ConfigError, Metadata, Series, SourceError, Summary, Transform
from esmond_etl.model.histograms import STATISTICS

RECORDED = Path(__file__).parents[1] / "conformance" / "histogram.jsonl"


def delay(width: Any = None, tool: str = "pscheduler/powstream") -> Series:
    parameters = {"ip-tos": "0"} if width is None else {"ip-tos": "0", "sample-bucket-width": width}
    return Series(Metadata("k", tool_name=tool, parameters=parameters), "histogram-owdelay")


Points = list[tuple[int, Any]]


def through(transform: Transform, series: Series, *pages: Points) -> Points:
    """What comes out of `transform` for a series in several pages."""
    batches = list(transform.apply([Batch.from_points(series, page) for page in pages]))
    target = transform.becomes(series)
    assert target
    for batch in batches:
        assert (batch.series, dict(batch.series.metadata.parameters)) == (target, dict(target.metadata.parameters))
    return [tuple(point) for batch in batches for point in batch.to_points()]


def pages_of(points: Points, cuts: list[int]) -> list[Points]:
    edges = [0, *sorted(cut % (len(points) + 1) for cut in cuts), len(points)]
    return [points[start:end] for start, end in pairwise(edges)]


HISTOGRAM = st.dictionaries(
    st.one_of(st.integers(0, 50).map(str), st.sampled_from(["12.5", "word", "é"])), st.integers(0, 5), max_size=5
)
SERIES = st.lists(st.tuples(st.integers(0, 5000), HISTOGRAM), max_size=30, unique_by=lambda point: point[0]).map(
    lambda points: sorted(points, key=lambda point: point[0])
)
CUTS = st.lists(st.integers(0, 1000), max_size=6)

TWO = {"9": 12, "10.5": 3}


def recorded(name: str) -> dict[int, Any]:
    """The last answer of a real archive to a request for histogram-owdelay/`name`; base data as it was posted."""
    found: dict[int, Any] = {}
    for step in map(json.loads, RECORDED.read_text().splitlines()):
        request = step["request"]
        if request["path"].endswith(f"histogram-owdelay/{name}"):
            points = [request["json"]] if request["method"] == "POST" else step["response"]["json"]
            found |= {point["ts"]: point["val"] for point in points}
    return found


def test_all_statistics_are_those_that_a_real_archive_makes() -> None:
    assert dict(through(HistogramStats(), delay(), sorted(recorded("base").items()))) == recorded("statistics/0")
    hourly = delay().replace(summary=Summary("aggregation", 3600))
    assert dict(through(HistogramStats(), hourly, [*recorded("aggregations/3600").items()])) == recorded("statistics/3600")


def test_one_statistic_is_a_number_of_true_milliseconds() -> None:
    numbers = {
        statistic: through(HistogramStats.model_validate({"statistic": statistic}), delay("0.0001"), [(1, {"90": 12, "105": 3})])
        for statistic in STATISTICS
    }
    assert numbers == {
        "minimum": [(1, 9.0)],
        "maximum": [(1, 10.5)],
        "mean": [(1, pytest.approx(9.3))],
        "median": [(1, 9.0)],
        "mode": [(1, 9.0)],
        "percentile-25": [(1, 9.0)],
        "percentile-75": [(1, 9.0)],
        "percentile-95": [(1, 10.5)],
        "standard-deviation": [(1, pytest.approx(0.6))],
        "variance": [(1, pytest.approx(0.36))],
    }


@pytest.mark.parametrize(
    ("series", "median"), [(delay("0.0001"), 5.0), (delay(), 50.0), (delay("0.0001", "pscheduler/halfping"), 50.0)]
)
def test_the_width_of_buckets_counts_where_the_tool_uses_it(series: Series, median: float) -> None:
    assert through(HistogramStats(statistic="median"), series, [(1, {"50": 1})]) == [(1, median)]


def test_the_series_says_that_its_values_are_milliseconds_now() -> None:
    names = [
        (str(each.summary), dict(each.metadata.parameters))
        for statistic in ("all", "median")
        for series in (delay("0.0001"), delay(), delay().replace(summary=Summary("aggregation", 3600)))
        for each in [HistogramStats.model_validate({"statistic": statistic}).becomes(series)]
    ]
    plain, converted = {"ip-tos": "0"}, {"ip-tos": "0", "sample-bucket-width": "0.001"}
    assert names == [
        ("statistics/0", converted),
        ("statistics/0", plain),
        ("statistics/3600", plain),
        ("base", converted),
        ("base", plain),
        ("aggregation/3600", plain),
    ]
    ttl = delay("0.0001").replace(event_type="histogram-ttl")
    assert HistogramStats(statistic="median").becomes(ttl) is ttl


def test_a_histogram_without_statistics_is_left_out_or_empty() -> None:
    points = [(1, {}), (2, {"a": 1}), (3, {"7": 0}), (4, {"7": 2, "8": 2})]
    assert through(HistogramStats(statistic="mode"), delay(), points) == [(4, 7.0)]
    everything = through(HistogramStats(), delay(), points)
    assert everything[:3] == [(1, {}), (2, {}), (3, {})]
    assert (everything[3][1]["mode"], list(everything[3][1])) == ([7.0, 8.0], list(STATISTICS))


@given(SERIES, CUTS, st.sampled_from(["all", "mean", "median", "mode", "variance"]))
def test_statistics_are_the_same_however_the_series_is_cut(points: Points, cuts: list[int], statistic: str) -> None:
    stats = HistogramStats.model_validate({"statistic": statistic})
    assert through(stats, delay(), *pages_of(points, cuts)) == through(stats, delay(), points)


@pytest.mark.parametrize("transform", [HistogramStats(), MergeHistograms(period="1h")])
def test_what_is_no_histogram_passes_unless_it_is_asked_for(transform: Transform) -> None:
    throughput, statistics = delay().replace(event_type="throughput"), delay().replace(summary=Summary("statistics", 3600))
    assert through(transform, throughput, [(1, 2.0)]) == [(1, 2.0)]
    assert through(transform, statistics, [(1, {"mean": 2.0})]) == [(1, {"mean": 2.0})]
    asked = transform.model_copy(update={"event_types": ["throughput", "histogram-owdelay"]})
    assert through(asked, statistics, [(1, {"mean": 2.0})]) == [(1, {"mean": 2.0})]
    with pytest.raises(ConfigError) as caught:
        through(asked, throughput, [(1, 2.0)])
    assert str(caught.value) == (
        f"k/throughput/base: {type(transform).__name__} works on histograms, and these values are none: "
        "take 'throughput' out of its event_types"
    )


@pytest.mark.parametrize("transform", [HistogramStats(), MergeHistograms(period="1h")])
def test_a_broken_histogram_is_named_with_its_moment(transform: Transform) -> None:
    with pytest.raises(SourceError, match=r"^k/histogram-owdelay/base at 2: not a histogram \(.*\): \[3\]$"):
        through(transform, delay(), [(1, TWO), (2, [3])])


def test_a_width_that_is_none_is_an_error_of_the_series() -> None:
    with pytest.raises(SourceError, match=r"^k/histogram-owdelay/base: sample-bucket-width is not a valid width: 'wide'$"):
        through(HistogramStats(), delay("wide"), [(1, TWO)])


def test_merged_histograms_are_the_aggregations_of_a_real_archive() -> None:
    merged = through(MergeHistograms(period="1h"), delay(), [(1397075053, {"28": 33}), (1397075113, TWO)])
    assert merged == [(1397073600, {"9": 12, "10.5": 3, "28": 33})]
    again = through(MergeHistograms(period="1d"), delay().replace(summary=Summary("aggregation", 3600)), merged)
    assert again == [(1397001600, merged[0][1])]


@given(SERIES, CUTS, st.sampled_from([1, 60, 3600]))
def test_merging_adds_up_buckets_however_the_series_is_cut(points: Points, cuts: list[int], period: int) -> None:
    merge = MergeHistograms.model_validate({"period": period})
    expected: dict[int, Counter[str]] = {}
    for ts, histogram in points:
        total = expected.setdefault(ts // period * period, Counter())
        total.update(dict.fromkeys(histogram, 0))
        total.update(histogram)
    whole = through(merge, delay(), points)
    assert whole == [(start, dict(total)) for start, total in expected.items()]
    pages = pages_of(points, cuts)
    texts = [
        pa.concat_arrays(
            [batch.val for batch in merge.apply([Batch.from_points(delay(), page) for page in each])] or [pa.array([], "string")]
        )
        for each in ([points], pages)
    ]
    assert texts[0].equals(texts[1])


def test_merged_buckets_ascend_as_numbers_and_words_come_last() -> None:
    (batch,) = MergeHistograms(period="1h").apply(
        [Batch.from_points(delay(), [(1, {"10": 1, "word": 1}), (2, {"9.5": 1, "10": 2})])]
    )
    assert batch.val.to_pylist() == ['{"9.5":1,"10":3,"word":1}']


def test_merging_says_what_becomes_of_an_aggregation() -> None:
    merge = MergeHistograms(period="1h")
    summaries = [Summary(), Summary("aggregation", 300), Summary("aggregation", 3600), Summary("aggregation", 86400)]
    assert [str(merge.becomes(delay().replace(summary=each)).summary) for each in summaries] == [
        "base",
        "aggregation/3600",
        "aggregation/3600",
        "aggregation/86400",
    ]


def test_merging_leaves_the_width_of_buckets_to_a_later_transform() -> None:
    merged = MergeHistograms(period="1h").apply([Batch.from_points(delay("0.0001"), [(1, {"50": 1}), (2, {"70": 1})])])
    medians = list(HistogramStats(statistic="median").apply(merged))
    assert [list(batch.to_points()) for batch in medians] == [[(0, 6.0)]]
